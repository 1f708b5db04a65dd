// For software drivers alone: `optim/clip_norm.wgsl` without barriers. Every invocation leaves its partial result (sum, 1 if not
// finite) at p.first + its number. An invocation takes blocks of 64 elements; those of a workgroup lie side by side.
//
// gradients  of V, p.vectors of them
// partial    (sum, 1 if not finite) of each invocation
//
// Asks for: vectors V (`shared/vectors.wgsl`); `class_of(block)`, as there. Workgroups: p.groups of 64.
// Iterations: (1 + BLOCK) ceil(blocks / (64 * groups)). Whole blocks are unrolled (docs/software-drivers.md, "optimizers").

const BLOCK: u32 = 16u / PARTS;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let blocks = (p.vectors + BLOCK - 1u) / BLOCK;
    let each = (blocks + p.groups * 64u - 1u) / (p.groups * 64u);
    var found: Found;
    for (var turn = 0u; turn < each; turn++) {
        let block = (group.x * each + turn) * 64u + lane;
        if block < blocks && class_of(block) != 0u {
            let start = block * BLOCK;
            if start + BLOCK <= p.vectors {
                for (var k = 0u; k < BLOCK; k++) {
                    found = including(found, start + k);
                }
            } else {
                for (var i = start; i < p.vectors; i++) {
                    found = including(found, i);
                }
            }
        }
    }
    partial[p.first + group.x * 64u + lane] = summed(found);
}
