// Gradient of normalised channels: with h = (x - mean) r, r = 1 / sqrt(variance + epsilon), over the n elements of a channel,
//   dx = w r (dy - sum(dy) / n - h sum(dy h) / n).
//
// Operands: dy (through prologue), x, statistics [3, channels] (mean, variance and the rest of the mean), sums [2, channels] (of
// dy h and of dy), w [channels] where there is one, result (through epilogue). For `batch_norm/map.wgsl`.

struct Row {
    mean: F,
    rest: F,
    scale: F,
    sum: F,
    slope: F,
}

fn begin(channel: u32) -> Row {
    let r = F(1.0) / sqrt(statistic(1u, channel) + p.epsilon);
    return Row(
        statistic(0u, channel),
        rest_of(channel),
        r * weight_of(channel),
        sum_of(1u, channel) * p.share,
        sum_of(0u, channel) * p.share * r,
    );
}

fn value(at: u32, begun: Row) -> F {
    return (prologue(at * LANES) - begun.sum - ((input[at] - begun.mean) - begun.rest) * begun.slope) * begun.scale;
}
