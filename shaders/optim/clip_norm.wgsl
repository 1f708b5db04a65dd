// Sum of squares of the gradients in one arena, and whether any is NaN or infinite.
//
// gradients  of V, p.vectors of them
//
// Asks for: vectors V (`shared/vectors.wgsl`); `finish(sum, bad, group)`, which takes a workgroup's result: into the partial results
// (first of two passes) or, of a small arena that one workgroup sums, to a verdict; `settle(lane)`, which all invocations call after
// it; `class_of(block)`, the class of a block of 64 elements (0: its parameter is not part of this step).
// Workgroups: p.groups of 64. Iterations: vectors / (64 * groups), and those of `settle`.

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var found: Found;
    for (var i = group.x * 64u + lane; i < p.vectors; i += p.groups * 64u) {
        if class_of(i / (16u / PARTS)) != 0u {
            found = including(found, i, true);
        }
    }
    pass_on(summed(found), lane, group.x);
}
