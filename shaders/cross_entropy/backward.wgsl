// Gradient of the cross-entropy of each row: dx_j = (exp(x_j - m) / s - [j = t]) dloss. NaN where the label is no class.
//
// Bindings: 0 dloss (read, [n], through first_of), 1 logits (read), 2 labels (read, [n]), 3 result (written, [n, c], through
// epilogue). `rows/log_sum_exp.wgsl` and `rows/loop.wgsl` follow.

alias Item = F;

struct Row {
    label: u32,
    grad: f32,
}

@group(0) @binding(1) var<storage, read> input: array<F>;
// Of i32 labels, the negative ones are out of range as u32 too.
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<OUT>;

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
    let closed = close_lanes(state);
    return State(closed.top, F(1.0) / closed.sum, closed.bad);
}

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    let share = exp_down(x - state.top) * state.sum;
    let hot = select(F(0.0), F(1.0), lane_numbers(j * LANES) == U(begun.label));
    return (share - hot) * begun.grad;
}
