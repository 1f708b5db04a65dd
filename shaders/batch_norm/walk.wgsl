// Walks over the elements of channels: x [n, channels, length], in values F of LANES elements: neighbours along the length
// (ALONG), or the same element of four neighbouring channels.
//
// Put in front of this text: `const LANES`, lanes_sum and what else `lane_functions` gives, the data bindings.
// After it: `batch_norm/fold.wgsl` or `batch_norm/map.wgsl`, and the functions of the op.

struct Params {
    channels: u32,
    length: u32,
    // Values of a channel: n * length.
    total: u32,
    parts: u32,
    // total / parts, rounded up.
    per_part: u32,
    // A step between values that an invocation takes, as whole lengths and the rest.
    step: u32,
    step_n: u32,
    step_i: u32,
    epsilon: f32,
    // 1 over the number of elements of a channel.
    share: f32,
}

@group(0) @binding(15) var<uniform> p: Params;

// The t-th value of a channel: image n and place i in it.
struct Spot {
    n: u32,
    i: u32,
}

fn first_spot(t: u32) -> Spot {
    let n = t / p.length;
    return Spot(n, t - n * p.length);
}

// Without a division: there is one a walk, not one a value.
fn next_spot(spot: Spot) -> Spot {
    let i = spot.i + p.step_i;
    let over = i >= p.length;
    return Spot(spot.n + p.step_n + select(0u, 1u, over), select(i, i - p.length, over));
}

fn place(spot: Spot, channel: u32) -> u32 {
    return (spot.n * p.channels + channel) * p.length + spot.i;
}
