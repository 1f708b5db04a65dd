// theta <- what `optim/sharp_move.wgsl` has kept of it, bit for bit.
//
// theta, kept  vectors of four words, p.vectors of them
// One invocation a vector; workgroups: ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i < p.vectors {
        theta[i] = kept[i];
    }
}
