// LAMB (You et al. 2020), a rule of `optim/update.wgsl` that measures:
//
//   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + wd theta
//   theta <- theta - lr |theta| / |u| u   (lr u where a norm is 0)
//
// Host numbers: (lr, wd, eps, 0), (b1, 1 - b1, b2, 1 - b2); the correction: that of Adam. Sums: |theta|^2, |u|^2.

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
    corrected: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    var trust = 1.0;
    if sums.x > 0.0 && sums.y > 0.0 {
        trust = sqrt(sums.x) / sqrt(sums.y);
    }
    return Factors(vec4<f32>(rates.x * trust, rates.yzw), factor(at + 1u), corrected);
}

fn direction(x: vec4<f32>, kept: Moments, f: Factors) -> vec4<f32> {
    return kept.m * f.corrected.x / (sqrt(kept.v) * f.corrected.y + f.rates.z) + f.rates.y * x;
}

fn observed(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Observed {
    let kept = Moments(f.betas.x * old.m + f.betas.y * g, f.betas.z * old.v + f.betas.w * (g * g));
    let u = direction(x, kept, f);
    return Observed(x * x, u * u, kept);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    return Moved(x - f.rates.x * direction(x, old, f), old);
}
