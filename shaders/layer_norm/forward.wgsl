// Normalisation of each row: y = (x - mean) / sqrt(variance + epsilon) * w + b.
//
// Bindings: 0 x (read, through prologue), then w and b [n] where there are any, then the result (written, through
// epilogue). Before this text: `affine(x, j)`, which applies w and b, and the bindings, and `rows/moments.wgsl`.
// `rows/loop.wgsl` follows.

// The first element.
alias Row = F;
alias Item = F;

fn begin(row: u32) -> Row {
    if CENTRED {
        return lanes_first(item(row, 0u));
    }
    return F(0.0);
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_element(state, x - begun);
}

// (n, mean less the first element, reciprocal deviation)
fn close(state: State, begun: Row) -> State {
    let closed = close_lanes(state);
    return State(closed.count, closed.mean, F(1.0) / sqrt(closed.square * (1.0 / closed.count) + p.number));
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    return affine(((x - begun) - state.mean) * state.square, j);
}
