// One workgroup a row of at most WIDTH * KEEP values: lane l reads values l, l + WIDTH, .. once, and keeps them.
// Workgroups: rows. Iterations: 2 KEEP + 8.

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
    var kept: array<Item, KEEP>;
    for (var k = 0u; k < KEEP; k++) {
        let j = lane + k * WIDTH;
        if j < p.length {
            kept[k] = item(row, j);
            state = take(state, kept[k], begun, j);
        }
    }
    state = close(join_lanes(state, lane), begun);
    for (var k = 0u; k < KEEP; k++) {
        let j = lane + k * WIDTH;
        if j < p.length {
            write(state, kept[k], begun, row, j);
        }
    }
}
