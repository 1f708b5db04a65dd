// Cross-entropy of each row of logits x [n, c] with its label t: loss = log(s) - (x_t - m), m = max x, s = sum exp(x - m).
// A label that is no class gives NaN and reads nothing.
//
// Operands: logits [n, c] (through prologue), labels [n], result [n]. For `rows/loop.wgsl`, with `rows/log_sum_exp.wgsl`.

alias Item = F;

const RESULTS: u32 = 1u;

struct Row {
    label: u32,
    // x_t
    logit: f32,
}

fn begin(row: u32) -> Row {
    let label = labels[row];
    if label >= p.count {
        return Row(label, 0.0);
    }
    let values = prologue((place(row, label / LANES)) * LANES);
    return Row(label, lane_of(values, label % LANES));
}

fn item(row: u32, j: u32) -> Item {
    return prologue(place(row, j) * LANES);
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_logit(state, x);
}

// (m, log(s))
fn close(state: State, begun: Row) -> State {
    let closed = closed_sum(state);
    return State(closed.top, log_full(closed.sum), closed.bad);
}

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    if begun.label >= p.count {
        return bitcast<f32>(0x7fc00000u + p.zero);
    }
    return lane_of(state.sum, 0u) - (begun.logit - lane_of(state.top, 0u));
}
