// The update of an optimizer over one arena: goes over its blocks and leaves the mathematics to `apply`.
//
// status   (norm, clip factor, 1 to skip the update) and the correction of each class, as `optim/tally.wgsl` left them
// classes  [blocks of 64 elements], where they are of several classes
//
// Asks for: the text of a rule (`optim/adamw.wgsl`, ..); vectors V (`shared/vectors.wgsl`); `const VECTORS`, a power of two that
// divides the vectors of a block; `class_of(block)`, the class of a block (0: leave alone), with `const ONE_CLASS`, true if that is
// p.class_number for all; `sums_of(block)`, what the rule has measured of a block's parameter, with `const MEASURES`, true if there is any;
// `adjust`; `optim/own_numbers.wgsl`.
// One invocation VECTORS vectors; workgroups: ceil(vectors / (64 VECTORS)). Iterations: VECTORS.

// What all vectors share, loaded once (docs/software-drivers.md, "optimizers").
var<private> shared_verdict: vec4<f32>;
var<private> shared_corrected: vec4<f32>;
var<private> shared_factors: Factors;

// Done before `main` by every invocation; where one does the work of many (`gpu/balance.wgsl`), once.
fn before_main() {
    take_numbers();
    shared_verdict = status[0];
    if ONE_CLASS {
        shared_corrected = status[p.class_number];
        if !MEASURES {
            shared_factors = factors_at(p.word / 4u, shared_corrected, vec2<f32>(0.0));
        }
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
    if shared_verdict.z != 0.0 {
        return;
    }
    var factors = shared_factors;
    if !ONE_CLASS || MEASURES {
        var corrected = shared_corrected;
        if !ONE_CLASS {
            corrected = status[class_number];
        }
        factors = factors_at(p.word / 4u, corrected, sums_of(start / (16u / PARTS)));
    }
    // The loop ends where a round does: one round, which surely is, is then no loop.
    let end = min(start + VECTORS, p.vectors);
    var i = start;
    loop {
        apply(i, shared_verdict.y, factors);
        i++;
        if VECTORS == 1u || i >= end {
            break;
        }
    }
}
