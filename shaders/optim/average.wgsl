// An average of weights follows an update: goes over the blocks of an arena and leaves what is done with each vector to `take`.
//
// owners  [blocks of 64 elements], the parameter of each
// shares  [parameters], as `optim/average_count.wgsl` left them
//
// Asks for: vectors V (`shared/vectors.wgsl`); `const VECTORS`, a power of two that divides the vectors of a block;
// `take(i, share)`. One invocation VECTORS vectors; workgroups: ceil(vectors / (64 VECTORS)). Iterations: VECTORS.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = ((group.x + group.y * groups.x) * 64u + lane) * VECTORS;
    if start >= p.vectors {
        return;
    }
    // All vectors of an invocation lie in one block.
    let share = shares[owners[start / (16u / PARTS)]];
    if share < 0.0 {
        return;
    }
    let end = min(start + VECTORS, p.vectors);
    var i = start;
    loop {
        take(i, share);
        i++;
        if VECTORS == 1u || i >= end {
            break;
        }
    }
}
