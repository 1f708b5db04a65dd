// Softmax, or with `const LOG: bool` its logarithm, along one axis:
//   y = exp(x - m) / s   or   y = (x - m) - log(s),   m = max x,   s = sum exp(x - m).
//
// Bindings: 0 input (read), 1 result (written). `rows_log_sum_exp.wgsl`, which forms m and s, and `rows.wgsl` follow.

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;

// (m, 1 / s) or (m, log(s))
fn close(state: State) -> State {
    let sum = row_sum(state);
    if LOG {
        return State(state.x, log_full(sum), 0.0);
    }
    return State(state.x, 1.0 / sum, 0.0);
}

fn value(state: State, row: u32, j: u32) -> f32 {
    let shifted = input[row_start(row) + j * p.stride] - state.x;
    if LOG {
        return shifted - state.y;
    }
    return exp_full(shifted) * state.y;
}
