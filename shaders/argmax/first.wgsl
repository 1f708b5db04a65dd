// First pass of argmax: the winner of each run. Binding 1: result (written), [outputs][runs].

@group(0) @binding(1) var<storage, read_write> result: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.outputs * p.runs {
        return;
    }
    let o = i / p.runs;
    let base = kept_index(o);
    let first = (i - o * p.runs) * p.run;
    let last = min(first + p.run, p.reduced);
    var best = first;
    var value = input[base + within_index(first)];
    for (var r = first + 1u; r < last; r++) {
        let x = input[base + within_index(r)];
        if wins(x, value) {
            best = r;
            value = x;
        }
    }
    result[i] = best;
}
