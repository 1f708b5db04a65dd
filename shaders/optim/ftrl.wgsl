// FTRL-Proximal (McMahan et al. 2013), a rule of `optim/update.wgsl`, as Keras has it, with the power of the rate at -1/2:
//
//   n' = n + g^2;  z <- z + g + 2 shrinkage theta - (sqrt(n') - sqrt(n)) / lr theta
//   theta <- (clip(z, -l1, l1) - z) / (sqrt(n') / lr + 2 l2 + beta / lr);  n <- n'
//
// Host numbers: (1 / lr, or 0 where nothing moves, l1, 2 l2 + beta / lr, 2 shrinkage), (n before the first update, 0, 0, 0). The correction: 1 in the first update.

struct Factors {
    rates: vec4<f32>,
    initial: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u).x * corrected.x);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let n = old.n + vec4<f32>(f.initial);
    if f.rates.x == 0.0 {
        return Moved(x, Moments(n, old.z));
    }
    let next = n + g * g;
    // The difference of the roots, without losing the digits of a small g.
    let sum = sqrt(next) + sqrt(n);
    let roots = select(g * g / sum, vec4<f32>(0.0), sum == vec4<f32>(0.0));
    let z = old.z + g + f.rates.w * x - roots * f.rates.x * x;
    let moved = (clamp(z, vec4<f32>(-f.rates.y), vec4<f32>(f.rates.y)) - z) / (sqrt(next) * f.rates.x + f.rates.z);
    return Moved(moved, Moments(next, z));
}
