// Mean and reciprocal standard deviation of each row.
//
// Bindings: 0 x (read, through prologue), 1 result [rows, 2] (written). `rows_moments.wgsl` stands before this text,
// `rows.wgsl` follows.

alias Row = u32;
alias Item = F;

const RESULTS: u32 = 2u;

@group(0) @binding(1) var<storage, read_write> result: array<f32>;

fn begin(row: u32) -> Row {
    return row;
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_element(state, x);
}

fn close(state: State, begun: Row) -> State {
    let closed = close_lanes(state);
    return State(closed.count, closed.mean, F(1.0) / sqrt(closed.square * (1.0 / closed.count) + p.number));
}

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    return select(lane_of(state.mean, 0u), lane_of(state.square, 0u), k == 1u);
}
