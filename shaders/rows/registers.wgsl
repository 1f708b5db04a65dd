// One workgroup a row of at most WIDTH * KEEP values, for `rows/loop.wgsl`: lane l reads values l, l + WIDTH, .. once, and keeps them. The
// entry is `shared/team.wgsl`. Workgroups: rows. Iterations: 2 KEEP + 8.

fn work(row: u32, lane: u32) {
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
    state = close(wide(join_lanes(narrow(state), lane)), begun);
    for (var k = 0u; k < KEEP; k++) {
        let j = lane + k * WIDTH;
        if j < p.length {
            write(state, kept[k], begun, row, j);
        }
    }
}
