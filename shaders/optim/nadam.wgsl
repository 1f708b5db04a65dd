// NAdam (Dozat 2016), a rule of `optim/update.wgsl`, as torch.optim.NAdam has it:
//
//   d <- g + l2 theta;  m <- b1 m + (1 - b1) d;  v <- b2 v + (1 - b2) d^2
//   mu_t = b1 (1 - 0.96^(t psi) / 2);  M_t = mu_1 .. mu_t
//   theta <- theta - lr wd theta - lr ((1 - mu_t) / (1 - M_t) d + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v / (1 - b2^t)) + eps)
//
// Host numbers: (lr, l2, eps, lr wd), (b1, 1 - b1, b2, 1 - b2). The correction: the factors of d and of m, and
// 1 / sqrt(1 - b2^t).

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
    corrected: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), corrected);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let m = f.betas.x * old.m + f.betas.y * d;
    let v = f.betas.z * old.v + f.betas.w * (d * d);
    let size = sqrt(v) * f.corrected.z + f.rates.z;
    let step = (f.corrected.x * d + f.corrected.y * m) / size;
    return Moved(x - (f.rates.w * x + f.rates.x * step), Moments(m, v));
}
