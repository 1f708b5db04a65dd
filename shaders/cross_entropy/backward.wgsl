// Gradient of the cross-entropy of each row: dx_j = (exp(x_j - m) / s - [j = t]) dloss. NaN where the label is no class.
//
// Operands: dloss [n] (through first_of), logits [n, c], labels [n], result [n, c] (through epilogue). For `rows/loop.wgsl`, with
// `rows/log_sum_exp.wgsl`.

alias Item = F;

struct Row {
    label: u32,
    grad: f32,
}

fn begin(row: u32) -> Row {
    let label = labels[row];
    return Row(label, select(bitcast<f32>(0x7fc00000u + p.zero), first_of(row), label < p.count));
}

fn item(row: u32, j: u32) -> Item {
    return input[place(row, j)];
}

fn take(state: State, x: Item, begun: Row, j: u32) -> State {
    return take_logit(state, x);
}

// (m, 1 / s)
fn close(state: State, begun: Row) -> State {
    let closed = closed_sum(state);
    return State(closed.top, F(1.0) / closed.sum, closed.bad);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    let share = exp_down(x - state.top) * state.sum;
    let hot = select(F(0.0), F(1.0), lane_numbers(j * LANES) == U(begun.label));
    return (share - hot) * begun.grad;
}
