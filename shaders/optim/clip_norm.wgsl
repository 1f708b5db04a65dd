// Sum of squares of the gradients in one arena, and whether any is NaN or infinite.
//
// Put in front of this text: `shared/vectors.wgsl` or `shared/vectors_eights.wgsl`, whose vectors p.vectors counts; `optim/clip_found.wgsl` and `optim/clip_tree.wgsl`; `finish(sum, bad, group)`, which takes
// a workgroup's result: into the partial results (first of two passes) or, of a small arena that one workgroup sums, to a verdict,
// and `settle(lane)`, which all invocations call after it; and `class_of(block)`, the class of a block of 64 elements (0: its
// parameter is not part of this step), which may be p.class_number. Bindings: 0 gradients (read), from 1 on what `finish` writes.
// Workgroups: p.groups of 64. Iterations: vectors / (64 * groups), and those of `settle`.

struct Params {
    vectors: u32,
    groups: u32,
    // Of partial results: the number of the first.
    first: u32,
    // Of a verdict: the first operand, and how many parameters there are.
    word: u32,
    class_number: u32,
    parameters: u32,
}

@group(0) @binding(0) var<storage, read> gradients: array<V>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var found: Found;
    for (var i = group.x * 64u + lane; i < p.vectors; i += p.groups * 64u) {
        if class_of(i / (16u / PARTS)) != 0u {
            found = including(found, i);
        }
    }
    pass_on(summed(found), lane, group.x);
}
