// The entry of kernels whose workgroups each work together: every lane of workgroup i calls `work(i, lane)`.
//
// Put in front: `const GROUP: u32`, lanes of a workgroup. After it: `fn work(i: u32, lane: u32)`, which does nothing where i is past the
// end, and may hold barriers, for i is the same in all lanes. Workgroups: folded freely over x and y.

@compute @workgroup_size(GROUP)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    work(group.x + group.y * groups.x, lane);
}
