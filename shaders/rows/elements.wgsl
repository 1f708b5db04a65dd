// One result an element: result[r, j] = epilogue(value(state of row r, item(r, j))), for `rows/loop.wgsl`.
// An invocation writes values first, first + step, .. of its row.

fn write(state: State, item: Item, begun: Row, row: u32, j: u32) {
    let at = place(row, j);
    result[at] = epilogue(value(state, item, begun, j), at * LANES);
}

fn finish(state: State, begun: Row, row: u32, first: u32, step: u32) {
    for (var j = first; j < p.length; j += step) {
        write(state, item(row, j), begun, row, j);
    }
}
