// Walks over the elements of channels: x [n, channels, length], in values F of LANES elements: neighbours along the length
// (ALONG), or the same element of four neighbouring channels.
//
// Asks for: `rows/one.wgsl` or `rows/four.wgsl`, `rows/lanes_joined.wgsl` or `rows/lanes_apart.wgsl`, the sizes of
// `src/ops/batch_norm/channels.rs`, `batch_norm/fold.wgsl` or `batch_norm/map.wgsl`, and the functions of the op.

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
