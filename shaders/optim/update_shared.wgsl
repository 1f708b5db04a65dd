// What all that an invocation updates has in common, loaded once (docs/software-drivers.md, "optimizers").
//
// status  (norm, clip factor, 1 to skip the update) and the correction of each class, as `optim/tally.wgsl` left them
//
// Asks for: the text of a rule (`optim/adam.wgsl`, ..); `class_of(block)`, the class of a block of 64 elements (0: leave alone), with
// `const ONE_CLASS`, true if that is p.class_number for all; `sums_of(block)`, what the rule has measured of a block's parameter, with
// `const MEASURES`, true if there is any; `adjust`; `optim/own_numbers.wgsl`.

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

// The factors of a block of this class.
fn factors_of(block: u32, class_number: u32) -> Factors {
    if ONE_CLASS && !MEASURES {
        return shared_factors;
    }
    var corrected = shared_corrected;
    if !ONE_CLASS {
        corrected = status[class_number];
    }
    return factors_at(p.word / 4u, corrected, sums_of(block));
}
