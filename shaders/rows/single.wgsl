// One invocation a row: for short rows, and for rows whose neighbours lie side by side in memory.
// Workgroups: ceil(rows / 64). Iterations: length / 4 + 4 to fold, and length + 1 to write.

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
    let begun = begin(row);
    var state = start();
    var j = 0u;
    while j + 3u < p.length {
        state = take(state, item(row, j), begun, j);
        state = take(state, item(row, j + 1u), begun, j + 1u);
        state = take(state, item(row, j + 2u), begun, j + 2u);
        state = take(state, item(row, j + 3u), begun, j + 3u);
        j += 4u;
    }
    while j < p.length {
        state = take(state, item(row, j), begun, j);
        j += 1u;
    }
    finish(close(state, begun), begun, row, 0u, 1u);
}
