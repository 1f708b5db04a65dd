// What both directions of `ctc/forward.wgsl` and `ctc/backward.wgsl` share: sums of probabilities by their logarithms, and what the
// lanes of a workgroup know together. With `rows/exp_down.wgsl` and `log1p`; F is f32.

// The logarithm of a probability of 0.
const NEVER: f32 = -1e30;

// Logarithms of the step before, then of this one, by turns.
var<workgroup> lattice: array<f32, 2u * STATES>;
var<workgroup> gathered: array<vec2<f32>, GROUP>;

fn is_never(x: f32) -> bool {
    return x < -1e29;
}

// ln(e^a + e^b + e^c).
fn sum_of(a: f32, b: f32, c: f32) -> f32 {
    let top = max(a, max(b, c));
    if is_never(top) {
        return NEVER;
    }
    return top + log1p(exp_down(a - top) + exp_down(b - top) + exp_down(c - top) - 1.0);
}

// The largest of all lanes, of two numbers each; or with ADDED their sums, in a fixed order.
fn of_all(own: vec2<f32>, lane: u32, added: bool) -> vec2<f32> {
    workgroupBarrier();
    gathered[lane] = own;
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            let other = gathered[lane + half];
            gathered[lane] = select(max(gathered[lane], other), gathered[lane] + other, added);
        }
    }
    workgroupBarrier();
    return gathered[0];
}

// Frames and states of a sequence, no more than there are.
fn extent(sequence: u32) -> vec2<u32> {
    return min(vec2<u32>(lengths[2u * sequence], lengths[2u * sequence + 1u]), vec2<u32>(p.frames, p.states));
}
