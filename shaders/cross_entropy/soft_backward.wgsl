// Gradient of the cross-entropy of each row with a share for each class and a weight for its label, both times the gradient of
// its loss already: dx_c = exp(x_c - m) / s (sum(q) + h) - q_c - h [c = t].
//
// Operands: q [n, c] (through prologue), logits [n, c], result [n, c] (through epilogue). For `rows/loop.wgsl`, with
// `cross_entropy/soft_state.wgsl`.

const APART: bool = false;

// (m, (sum(q) + h) / s)
fn close(state: State, begun: Row) -> State {
    let closed = close_soft(state);
    let scale = (closed.total + F(weight_of(begun))) / closed.sum;
    return State(closed.top, scale, closed.bad, closed.total, closed.apart);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    return exp_down(x.logit - state.top) * state.sum - x.share - added(begun, j);
}
