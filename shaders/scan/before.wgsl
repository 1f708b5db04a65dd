// The state of each run becomes that of all runs before it: an invocation a row.
//
// states  [parts, rows], of T
// Grid: ceil(rows / 64) workgroups, folded. Iterations: parts.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (group.x + group.y * groups.x) * 64u + lane;
    if row >= p.rows {
        return;
    }
    var before = initial();
    for (var k = 0u; k < p.parts; k++) {
        let state = states[k * p.rows + row];
        states[k * p.rows + row] = before;
        before = combine(before, state);
    }
}
