// Adagrad (Duchi, Hazan and Singer 2011), a rule of `optim/update.wgsl`:
//
//   d <- g + wd theta;  s <- s + d^2;  theta <- theta - lr / (1 + (t - 1) decay) d / (sqrt(s) + eps)
//
// Host numbers: (lr, wd, eps, s before the first update). The correction: 1 / (1 + (t - 1) decay), 1 in the first update.

struct Factors {
    rates: vec4<f32>,
    first: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    return Factors(vec4<f32>(rates.x * corrected.x, rates.yzw), corrected.y);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let s = old.sum + vec4<f32>(f.first * f.rates.w) + d * d;
    return Moved(x - f.rates.x * d / (sqrt(s) + f.rates.z), Moments(s));
}
