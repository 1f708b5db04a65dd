// y = (x - mean) / sqrt(variance + epsilon) * w + b of each channel.
//
// Bindings: 0 x (read, through prologue), 1 statistics (read: mean, variance and, by `rest_of`, the
// rest of the mean), then w and b [channels] where
// there are any, then the result (written, through epilogue). The walk stands before this text.

struct Row {
    mean: F,
    rest: F,
    scale: F,
    shift: F,
}

fn begin(channel: u32) -> Row {
    let scale = F(1.0) / sqrt(statistic(1u, channel) + p.epsilon);
    return Row(statistic(0u, channel), rest_of(channel), scale * weight_of(channel), bias_of(channel));
}

fn value(at: u32, begun: Row) -> F {
    return ((prologue(at * LANES) - begun.mean) - begun.rest) * begun.scale + begun.shift;
}
