// The states of a workgroup that is one subgroup, joined without memory or barriers. `exchange(state, mask)` gives the state
// of the lane whose number differs by `mask`; lane 0 of a pair comes first, so that all lanes get the same bits.

fn join_lanes(own: Joined, lane: u32) -> Joined {
    var state = own;
    for (var mask = 1u; mask < WIDTH; mask <<= 1u) {
        let other = exchange(state, mask);
        if (lane & mask) == 0u {
            state = join(state, other);
        } else {
            state = join(other, state);
        }
    }
    return state;
}
