// state = join(join(.., ..), ..) over the states of a workgroup, as a tree in workgroup memory, in a fixed order: lane l takes that of lane
// l + half in, half going from WIDTH / 2 to 1. For `rows/loop.wgsl` and `batch_norm/fold.wgsl`. All lanes call `join_lanes` together.

var<workgroup> states: array<Joined, WIDTH>;

fn join_lanes(own: Joined, lane: u32) -> Joined {
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
