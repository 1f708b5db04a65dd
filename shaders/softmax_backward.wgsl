// Gradient of softmax y, or with `const LOG: bool` of log-softmax y, along one axis:
//   dx = y (dy - sum(y dy))   or   dx = dy - exp(y) sum(dy).
//
// Bindings: 0 y (read), 1 dy (read), 2 result (written). `rows.wgsl` follows this text.

alias State = f32;

@group(0) @binding(0) var<storage, read> output: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

fn start() -> State {
    return 0.0;
}

fn take(state: State, row: u32, j: u32) -> State {
    let at = row_start(row) + j * p.stride;
    if LOG {
        return state + grad[at];
    }
    return state + output[at] * grad[at];
}

fn join(a: State, b: State) -> State {
    return a + b;
}

fn close(state: State) -> State {
    return state;
}

fn value(state: State, row: u32, j: u32) -> f32 {
    let at = row_start(row) + j * p.stride;
    if LOG {
        return grad[at] - exp_full(output[at]) * state;
    }
    return output[at] * (grad[at] - state);
}
