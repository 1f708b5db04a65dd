// LARS (You, Gitman and Ginsburg 2017), a rule of `optim/update.wgsl` that measures:
//
//   rate = trust |theta| / (|g| + wd |theta| + eps)   (1 where a norm is 0);  d = rate (g + wd theta);  u <- mu u + d
//   theta <- theta - lr u,  or with Nesterov's momentum  theta - lr (d + mu u)
//
// Host numbers: (lr, wd, eps, trust), (mu, factor of d in the step, factor of u in the step, 0). Sums: |theta|^2, |g|^2.

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
    trust: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    let own = sqrt(sums.x);
    var trust = 1.0;
    if sums.x > 0.0 && sums.y > 0.0 {
        trust = rates.w * own / (sqrt(sums.y) + rates.y * own + rates.z);
    }
    return Factors(rates, factor(at + 1u), trust);
}

fn observed(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Observed {
    return Observed(x * x, g * g, old);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = f.trust * (g + f.rates.y * x);
    let u = f.shares.x * old.momentum + d;
    return Moved(x - f.rates.x * (f.shares.y * d + f.shares.z * u), Moments(u));
}
