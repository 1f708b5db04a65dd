// Mean and biased variance of each channel: [2, channels]. With several parts, [parts, 3, channels] of count, mean and sum
// of squared differences, which `batch_norm_join.wgsl` joins.
//
// Bindings: 0 x (read, through prologue), 1 result (written). `rows_moments.wgsl` and the walk stand before this text.

alias Row = u32;

fn begin(channel: u32) -> Row {
    return channel;
}

fn take(state: State, at: u32, begun: Row) -> State {
    return take_element(state, prologue(at * LANES));
}

fn put_all(part: u32, channel: u32, state: State, begun: Row) {
    if PARTIAL {
        put(part * 3u, channel, F(state.count));
        put(part * 3u + 1u, channel, state.mean);
        put(part * 3u + 2u, channel, state.square);
    } else {
        put(0u, channel, state.mean);
        put(1u, channel, state.square * p.share);
    }
}
