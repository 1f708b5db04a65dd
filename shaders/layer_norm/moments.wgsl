// The moments of each row, for `layer_norm/forward.wgsl` and `layer_norm/statistics.wgsl`. Elements are read through
// `prologue`. Asks for `rows/moments.wgsl` and `const CENTRED: bool`: false takes the mean to be 0. For `rows/loop.wgsl`.

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
