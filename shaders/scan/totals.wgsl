// The state of each run of a row, where a row is taken in several.
//
// states  [parts, rows], of T
// Grid: ceil(rows * parts / 64) workgroups, folded. Iterations: part.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let run = (group.x + group.y * groups.x) * 64u + lane;
    if run >= p.rows * p.parts {
        return;
    }
    let row = run % p.rows;
    let first = run / p.rows * p.part;
    let end = min(first + p.part, p.length);
    var state = initial();
    for (var j = first; j < end; j++) {
        state = combine(state, element(place(row, j), j));
    }
    states[run] = state;
}
