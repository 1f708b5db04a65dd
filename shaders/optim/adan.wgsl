// Adan (Xie et al. 2022), a rule of `optim/update.wgsl`:
//
//   e = g - previous g  (0 the first time)
//   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) e;  n <- b3 n + (1 - b3) (g + b2 e)^2
//   theta <- (theta - lr (m / (1 - b1^t) + b2 v / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)) / (1 + lr wd)
//
// Host numbers: (lr, eps, 1 / (1 + lr wd), 0), (b1, 1 - b1, b2, 1 - b2), (b3, 1 - b3, ..). The correction: 1 / (1 - b1^t),
// 1 / (1 - b2^t), 1 / sqrt(1 - b3^t), 1 in the first update.

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
    last: vec4<f32>,
    corrected: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), factor(at + 2u), corrected);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let e = select(g - old.previous, vec4<f32>(0.0), f.corrected.w > 0.0);
    let m = f.betas.x * old.m + f.betas.y * g;
    let v = f.betas.z * old.v + f.betas.w * e;
    let ahead = g + f.betas.z * e;
    let n = f.last.x * old.n + f.last.y * (ahead * ahead);
    let step = (m * f.corrected.x + f.betas.z * v * f.corrected.y) / (sqrt(n) * f.corrected.z + f.rates.y);
    return Moved((x - f.rates.x * step) * f.rates.z, Moments(m, v, n, g));
}
