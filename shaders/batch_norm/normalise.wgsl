// y = (x - mean) / sqrt(variance + epsilon) * w + b of each channel.
//
// Operands: x (through prologue), statistics (mean, variance and, by `rest_of`, the rest of the mean), w and b [channels] where
// there are any, result (through epilogue). For `batch_norm/map.wgsl`.

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
