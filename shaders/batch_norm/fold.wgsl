// Folds each channel: part q of a channel takes values q * per_part, .. in `step` lanes, joined in a fixed order.
//   state = join over the part of take(start(), place, channel's);   put_all(part, channel, state)
// Asks for: the walk, and `batch_norm/alone.wgsl`, or `batch_norm/together.wgsl` with `join_lanes`. All lanes of a workgroup that
// waits have the same `unit`, as barriers in `join_lanes` ask for.
// Units: parts * channels. Iterations: per_part / step + 10.

fn fold(unit: u32, lane: u32) {
    if unit >= p.parts * p.channels {
        return;
    }
    let part = unit / p.channels;
    let channel = unit - part * p.channels;
    let begun = begin(channel);
    var state = start();
    let end = min((part + 1u) * p.per_part, p.total);
    let first = part * p.per_part + lane;
    var spot = first_spot(first);
    for (var t = first; t < end; t += p.step) {
        state = take(state, place(spot, channel), begun);
        spot = next_spot(spot);
    }
    state = join_lanes(state, lane);
    if lane == 0u {
        put_all(part, channel, close_lanes(state), begun);
    }
}
