// Softmax, or with `const LOG: bool` its logarithm, along one axis:
//   y = exp(x - m) / s   or   y = (x - m) - log(s),   m = max x,   s = sum exp(x - m).
//
// Operands: x (through prologue), result (through epilogue). For `rows/loop.wgsl`, with `rows/log_sum_exp.wgsl`, which forms m
// and s.

alias Row = u32;
alias Item = F;

fn begin(row: u32) -> Row {
    return row;
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_logit(state, x);
}

// (m, 1 / s) or (m, log(s))
fn close(state: State, begun: Row) -> State {
    let closed = closed_sum(state);
    if LOG {
        return State(closed.top, log_full(closed.sum), closed.bad);
    }
    return State(closed.top, F(1.0) / closed.sum, closed.bad);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    let shifted = x - state.top;
    if LOG {
        return shifted - state.sum;
    }
    // A maximum that overlooked NaN leaves the sum NaN.
    return exp_down(shifted) * state.sum;
}
