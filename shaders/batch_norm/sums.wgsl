// Sums of each channel: of dy h, h = (x - mean) / sqrt(variance + epsilon), and of dy: [2, channels], or [parts, 2, channels].
// They are the gradients of the weight and the bias, and what the gradient of x needs.
//
// Operands: dy (through prologue), x, statistics (mean, variance and, by `rest_of`, the rest of the mean), result (by `put`). For
// `batch_norm/fold.wgsl`.

struct Row {
    mean: F,
    rest: F,
    scale: F,
}

struct State {
    dot: F,
    sum: F,
}

fn begin(channel: u32) -> Row {
    return Row(statistic(0u, channel), rest_of(channel), F(1.0) / sqrt(statistic(1u, channel) + p.epsilon));
}

fn start() -> State {
    return State(F(0.0), F(0.0));
}

fn take(state: State, at: u32, begun: Row) -> State {
    let grad = prologue(at * LANES);
    return State(state.dot + grad * ((input[at] - begun.mean) - begun.rest), state.sum + grad);
}

fn join(a: State, b: State) -> State {
    return State(a.dot + b.dot, a.sum + b.sum);
}

fn close_lanes(state: State) -> State {
    return State(lanes_sum(state.dot), lanes_sum(state.sum));
}

fn put_all(part: u32, channel: u32, state: State, begun: Row) {
    put(part * 2u, channel, state.dot * begun.scale);
    put(part * 2u + 1u, channel, state.sum);
}
