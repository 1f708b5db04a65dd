// Second pass of argmax: the winner of the runs. Bindings: 1 partial (read), [outputs][runs]; 2 result (written), [outputs].

@group(0) @binding(1) var<storage, read> partial: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.outputs {
        return;
    }
    let base = kept_index(i);
    var best = partial[i * p.runs];
    var value = input[base + within_index(best)];
    for (var k = 1u; k < p.runs; k++) {
        let other = partial[i * p.runs + k];
        let x = input[base + within_index(other)];
        if wins(x, value) {
            best = other;
            value = x;
        }
    }
    result[i] = best;
}
