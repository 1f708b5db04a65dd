// First element, biased variance, and mean less the first element of each channel: [3, channels]. With several parts,
// [parts, 4, channels] of count, mean less the first element, sum of squared differences, and the first element, which
// `batch_norm/join.wgsl` joins.
//
// Operands: x (through prologue), result (by `put`). Asks for `rows/moments.wgsl`. For `batch_norm/fold.wgsl`.

// The first element.
alias Row = F;

fn begin(channel: u32) -> Row {
    return lanes_first(prologue(place(first_spot(0u), channel) * LANES));
}

fn take(state: State, at: u32, begun: Row) -> State {
    return take_element(state, prologue(at * LANES) - begun);
}

fn put_all(part: u32, channel: u32, state: State, begun: Row) {
    if PARTIAL {
        put(part * 4u, channel, F(state.count));
        put(part * 4u + 1u, channel, state.mean);
        put(part * 4u + 2u, channel, state.square);
        put(part * 4u + 3u, channel, begun);
    } else {
        put(0u, channel, begun);
        put(1u, channel, state.square * p.share);
        put(2u, channel, state.mean);
    }
}
