// Normalisation of each row: y = (x - mean) / sqrt(variance + epsilon) * w + b.
//
// Bindings: 0 x (read, through prologue), then w and b [n] where there are any, then the result (written, through
// epilogue). Before this text: `affine(x, j)`, which applies w and b, and the bindings, and `rows_moments.wgsl`.
// `rows.wgsl` follows.

alias Row = u32;
alias Item = F;

fn begin(row: u32) -> Row {
    return row;
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_element(state, x);
}

// (n, mean, reciprocal deviation)
fn close(state: State, begun: Row) -> State {
    let closed = close_lanes(state);
    return State(closed.count, closed.mean, F(1.0) / sqrt(closed.square * (1.0 / closed.count) + p.number));
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    return affine((x - state.mean) * state.square, j);
}
