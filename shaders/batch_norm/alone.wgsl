// The entry of `batch_norm/fold.wgsl` for software drivers without subgroups, where barriers cost more than lanes bring: each of the 64
// invocations of a workgroup takes a part of a channel alone.

fn join_lanes(own: State, lane: u32) -> State {
    return own;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    work((group.x + group.y * groups.x) * 64u + lane, 0u);
}
