// For software drivers without subgroups, where barriers cost more than lanes bring: an invocation takes a part of a channel for
// `batch_norm/fold.wgsl` alone. The entry is `shared/each.wgsl`.

fn join_lanes(own: State, lane: u32) -> State {
    return own;
}

fn work(i: u32) {
    fold(i, 0u);
}
