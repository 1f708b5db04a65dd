// The entry of kernels whose invocations each work alone: invocation i of all that there are calls `work(i)`.
//
// Put in front: `const GROUP: u32`, invocations of a workgroup. After it: `fn work(i: u32)`, which does nothing where i is past the end.
// Workgroups: as many as the work takes, folded freely over x and y.

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    work((group.x + group.y * groups.x) * GROUP + lane);
}
