// Gradient of the cross-entropy of each row: dx_j = (exp(x_j - m) / s - [j = t]) dloss. NaN where the label is no class.
//
// Bindings: 1 logits (read), 2 labels (read, [n]), 3 result (written, [n, c]); dloss [n] comes through `prologue`.
// `rows_log_sum_exp.wgsl` and `rows.wgsl` follow.

@group(0) @binding(1) var<storage, read> input: array<f32>;
// Of i32 labels, the negative ones are out of range as u32 too.
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;

// (m, 1 / s)
fn close(state: State) -> State {
    return State(state.x, 1.0 / row_sum(state), 0.0);
}

fn value(state: State, row: u32, j: u32) -> f32 {
    let label = labels[row];
    if label >= p.length {
        return bitcast<f32>(0x7fc00000u + p.zero);
    }
    let share = exp_full(input[row_start(row) + j] - state.x) * state.y;
    return (share - select(0.0, 1.0, j == label)) * prologue(row);
}
