// An average of weights is about to take their place: what has none yet is the weight itself. Leaves the others to `form`.
//
// counts  as `optim/average_count.wgsl` left them
// owners  [blocks of 64 elements], the parameter of each
//
// Asks for: vectors V (`shared/vectors.wgsl`); `form(i, count)`, for a parameter that so many weights were taken of.
// One invocation a vector; workgroups: ceil(vectors / 64). Iterations: those of `form`.

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
    let count = counts[64u + owners[i / (16u / PARTS)]];
    if count == 0u {
        average[i] = theta[i];
    } else {
        form(i, count);
    }
}
