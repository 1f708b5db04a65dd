// Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019, algorithm 2), a rule of `optim/update.wgsl`:
//
//   d <- g + l2 theta;  m <- b1 m + (1 - b1) d;  v <- b2 v + (1 - b2) d^2
//   theta <- theta - lr ((m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + wd theta)
//
// with g the clipped gradient. Host numbers: (lr, l2, eps, lr wd), (b1, 1 - b1, b2, 1 - b2); the correction of the class:
// (1 / (1 - b1^t), 1 / sqrt(1 - b2^t)). Asks for: `mean_of_squares(old, v)`, what the root is taken of, and
// `kept_moments(old, m, v)`.

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
    root: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    let rates = factor(at);
    return Factors(vec4<f32>(rates.x * corrected.x, rates.yzw), factor(at + 1u), corrected.y);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let m = f.betas.x * old.m + f.betas.y * d;
    let v = f.betas.z * old.v + f.betas.w * (d * d);
    let size = sqrt(mean_of_squares(old, v)) * f.root + f.rates.z;
    return Moved(x - (f.rates.w * x + f.rates.x * m / size), kept_moments(old, m, v));
}
