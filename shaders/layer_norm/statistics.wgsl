// First element, reciprocal standard deviation, and mean less the first element of each row; and a 0.
//
// Bindings: 0 x (read, through prologue), 1 result [rows, 4] (written). `rows/moments.wgsl` stands before this text,
// `rows/loop.wgsl` follows.

alias Row = F;
alias Item = F;

const RESULTS: u32 = 4u;

@group(0) @binding(1) var<storage, read_write> result: array<f32>;

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

fn close(state: State, begun: Row) -> State {
    let closed = close_lanes(state);
    return State(closed.count, closed.mean, F(1.0) / sqrt(closed.square * (1.0 / closed.count) + p.number));
}

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    switch k {
        case 0u: {
            return lane_of(begun, 0u);
        }
        case 1u: {
            return lane_of(state.square, 0u);
        }
        case 2u: {
            return lane_of(state.mean, 0u);
        }
        default: {
            return 0.0;
        }
    }
}
