// For software drivers alone: `optim/clip_norm.wgsl` without barriers. Every invocation leaves its partial result (sum, 1 if not
// finite) at p.first + its number. A team of 8 neighbours takes 8 blocks of 64 elements, a vector each, so that memory is read in order.
//
// gradients  of V, p.vectors of them
// partial    (sum, 1 if not finite) of each invocation
//
// Asks for: vectors V (`shared/vectors.wgsl`); `class_of(block)`, as there. Workgroups: p.groups of 64, each of p.turns times 64 blocks.
// Iterations: (1 + BLOCK) p.turns. The vectors of a team are unrolled (docs/software-drivers.md, "optimizers").

const BLOCK: u32 = 16u / PARTS;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var found: Found;
    // The loop ends where a round does, and what does not count is chosen by value: branches would cost more than loads in vain.
    var turn = 0u;
    loop {
        let team = (group.x * p.turns + turn) * 8u + lane / 8u;
        for (var k = 0u; k < BLOCK; k++) {
            let own = (team * BLOCK + k) * 8u + lane % 8u;
            let i = min(own, p.vectors - 1u);
            found = including(found, i, (own < p.vectors) & (class_of(i / BLOCK) != 0u));
        }
        turn++;
        if turn >= p.turns {
            break;
        }
    }
    partial[p.first + group.x * 64u + lane] = summed(found);
}
