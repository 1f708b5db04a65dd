// The update of an optimizer over one arena: goes over its blocks and leaves the mathematics to `apply`.
//
// status   (correction, clip factor, 1 to skip the update) of each class, as `optim/tally.wgsl` left it
// classes  [blocks of 64 elements], where they are of several classes
//
// Asks for: the text of a rule (`optim/adamw.wgsl`, ..); vectors V (`shared/vectors.wgsl`); `const VECTORS`, a power of two that
// divides the vectors of a block; `class_of(block)`, the class of a block (0: leave alone), with `const ONE_CLASS`, true if that is
// p.class_number for all. The factors of the arena's group are two vectors of host numbers from word p.word on.
// One invocation VECTORS vectors; workgroups: ceil(vectors / (64 VECTORS)). Iterations: VECTORS.

// Host numbers.
fn factor(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(operands[at]);
}

// What all vectors share, loaded once (docs/software-drivers.md, "optimizers").
var<private> shared_verdict: vec4<f32>;
var<private> shared_factors: Factors;

// Done before `main` by every invocation; where one does the work of many (`gpu/balance.wgsl`), once.
fn before_main() {
    if ONE_CLASS {
        shared_verdict = status[p.class_number];
        shared_factors = factors_at(p.word / 4u, shared_verdict.xy);
    }
}

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
    let class_number = class_of(start / (16u / PARTS));
    if class_number == 0u {
        return;
    }
    var verdict = shared_verdict;
    var factors = shared_factors;
    if !ONE_CLASS {
        verdict = status[class_number];
        factors = factors_at(p.word / 4u, verdict.xy);
    }
    if verdict.w != 0.0 {
        return;
    }
    // The loop ends where a round does: one round, which surely is, is then no loop.
    let end = min(start + VECTORS, p.vectors);
    var i = start;
    loop {
        apply(i, verdict.z, factors);
        i++;
        if VECTORS == 1u || i >= end {
            break;
        }
    }
}
