// RESULTS numbers a row: result[r, k] = row_value(state of row r, k), for `rows/loop.wgsl`.

fn finish(state: State, begun: Row, row: u32, first: u32, step: u32) {
    for (var k = first; k < RESULTS; k += step) {
        result[row * RESULTS + k] = row_value(state, begun, k);
    }
}
