// Adamax (Kingma and Ba 2015, section 7.1), a rule of `optim/update.wgsl`:
//
//   d <- g + wd theta;  m <- b1 m + (1 - b1) d;  u <- max(b2 u, |d| + eps);  theta <- theta - lr / (1 - b1^t) m / u
//
// Host numbers: (lr, wd, eps, 0), (b1, 1 - b1, b2, 0); the correction: 1 / (1 - b1^t).

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    return Factors(vec4<f32>(rates.x * corrected.x, rates.yzw), factor(at + 1u));
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let m = f.betas.x * old.m + f.betas.y * d;
    let u = max(f.betas.z * old.u, abs(d) + f.rates.z);
    return Moved(x - f.rates.x * m / u, Moments(m, u));
}
