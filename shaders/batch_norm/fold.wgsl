// Folds each channel: part q of a channel takes values q * per_part, .. in lanes of WIDTH, joined in a fixed order.
//   state = join over the part of take(start(), place, channel's);   put_all(part, channel, state)
// Workgroups of WIDTH lanes (SINGLE: of 64 invocations that each walk alone): parts * channels of them.
// Iterations: per_part / WIDTH + 10.

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    var unit = group.x + group.y * groups.x;
    var lane = local;
    if SINGLE {
        unit = unit * GROUP + local;
        lane = 0u;
    }
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
