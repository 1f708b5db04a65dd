// An average of weights follows an update: goes over an arena and leaves what is done with each vector to `take`.
//
// owners  [blocks of 64 elements], the parameter of each
// shares  [parameters], as `optim/average_count.wgsl` left them
//
// Asks for: vectors V (`shared/vectors.wgsl`); `take(i, share)`. One invocation a vector; workgroups: ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.vectors {
        return;
    }
    let share = shares[owners[i / (16u / PARTS)]];
    if share < 0.0 {
        return;
    }
    take(i, share);
}
