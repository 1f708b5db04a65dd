// One workgroup a row, for `rows/loop.wgsl`: lane l takes values l, l + WIDTH, .. and `join_lanes` joins the lanes' states. The entry is
// `shared/team.wgsl`. Workgroups: rows. Iterations: 2 (length / WIDTH + 1) + 8.

fn work(row: u32, lane: u32) {
    if row >= p.rows {
        return;
    }
    let begun = begin(row);
    var state = start();
    for (var j = lane; j < p.length; j += WIDTH) {
        state = take(state, item(row, j), begun, j);
    }
    finish(close(wide(join_lanes(narrow(state), lane)), begun), begun, row, lane, WIDTH);
}
