// One invocation a row, for `rows/loop.wgsl`: for short rows, and for rows whose neighbours lie side by side in memory. The entry is
// `shared/each.wgsl`. Workgroups: ceil(rows / 64). Iterations: length / 4 + 4 to fold, and length + 1 to write.

fn work(row: u32) {
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
    finish(close(wide(narrow(state)), begun), begun, row, 0u, 1u);
}
