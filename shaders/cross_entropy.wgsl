// Cross-entropy of each row of logits x [n, c] with its label t: loss = log(s) - (x_t - m), m = max x, s = sum exp(x - m).
// A label that is no class gives NaN and reads nothing.
//
// Bindings: 0 logits (read), 1 labels (read, [n]), 2 result (written, [n]). `rows_log_sum_exp.wgsl` and `rows.wgsl` follow.

@group(0) @binding(0) var<storage, read> input: array<f32>;
// Of i32 labels, the negative ones are out of range as u32 too.
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

// (m, log(s))
fn close(state: State) -> State {
    return State(state.x, log_full(row_sum(state)), 0.0);
}

fn value(state: State, row: u32, j: u32) -> f32 {
    let label = labels[row];
    if label >= p.length {
        return bitcast<f32>(0x7fc00000u + p.zero);
    }
    return state.y - (input[row_start(row) + label] - state.x);
}
