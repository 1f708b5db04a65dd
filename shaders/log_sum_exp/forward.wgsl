// The logarithm of the sum of exponentials of each row: y = m + log(s), m = max x, s = sum exp(x - m). Where an element is +inf or NaN, y
// is the sum of these; where all are -inf, s is 0.
//
// Operands: x (through prologue), result, one number a row. For `rows/loop.wgsl`, with `rows/log_sum_exp.wgsl`, which forms m and s.

const RESULTS: u32 = 1u;

alias Row = u32;
alias Item = F;

fn begin(row: u32) -> Row {
    return row;
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    let taken = take_logit(state, x);
    let bits = bitcast<U>(x);
    let bad = ((bits & U(0x7f800000u)) == U(0x7f800000u)) & (bits != U(0xff800000u));
    return State(taken.top, taken.sum, select(state.bad, state.bad + x, bad));
}

// (m, log(s), the sum of what is not finite)
fn close(state: State, begun: Row) -> State {
    return State(state.top, log_full(state.sum), state.bad);
}

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    let value = state.top + state.sum;
    return lane_of(select(value + state.bad, state.bad, state.bad > F(0.0)), 0u);
}
