// Cross-entropy of each row of logits x [n, c] with a share q_c for each class and a weight h for its label t, if it has one:
// loss = sum_c q_c (log(s) - (x_c - m)) + h (log(s) - (x_t - m)), m = max x, s = sum exp(x - m). No part is below 0 where no
// share is.
//
// Operands: q [n, c] (through prologue), logits [n, c], result [n]. For `rows/loop.wgsl`, with `cross_entropy/soft_state.wgsl`.

const RESULTS: u32 = 1u;
const APART: bool = true;

fn close(state: State, begun: Row) -> State {
    return close_soft(state);
}

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    let weight = weight_of(begun);
    let of_shares = lane_of(log_full(state.sum) * (state.total + F(weight)) - state.apart, 0u);
    return of_shares - weight * (logit_of(begun) - lane_of(state.top, 0u));
}
