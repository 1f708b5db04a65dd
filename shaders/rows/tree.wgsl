// The states of a workgroup, joined as a tree in workgroup memory, in a fixed order.

var<workgroup> states: array<State, WIDTH>;

fn join_lanes(own: State, lane: u32) -> State {
    states[lane] = own;
    for (var half = WIDTH / 2u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if lane < half {
            states[lane] = join(states[lane], states[lane + half]);
        }
    }
    workgroupBarrier();
    return states[0];
}
