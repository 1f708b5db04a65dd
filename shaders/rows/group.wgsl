// One workgroup a row: lane l takes values l, l + WIDTH, ..
// Workgroups: rows. Iterations: 2 (length / WIDTH + 1) + 8.

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= p.rows {
        return;
    }
    let begun = begin(row);
    var state = start();
    for (var j = lane; j < p.length; j += WIDTH) {
        state = take(state, item(row, j), begun, j);
    }
    finish(close(join_lanes(state, lane), begun), begun, row, lane, WIDTH);
}
