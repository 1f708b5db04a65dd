// Gradient of normalised channels: with h = (x - mean) r, r = 1 / sqrt(variance + epsilon), over the n elements of a channel,
//   dx = w r (dy - sum(dy) / n - h sum(dy h) / n).
//
// Bindings: 0 dy (read, through prologue), 1 x (read), 2 statistics [3, channels] (read: mean, variance and the rest
// of the mean), 3 sums [2, channels] (read: of dy h and of dy), then w [channels] where there is one, then the result (written, through
// epilogue). The walk stands before this text.

struct Row {
    mean: F,
    rest: F,
    scale: F,
    sum: F,
    slope: F,
}

@group(0) @binding(1) var<storage, read> input: array<F>;

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
