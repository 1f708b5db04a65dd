// RAdam (Liu et al. 2020), a rule of `optim/update.wgsl`, as torch.optim.RAdam has it:
//
//   d <- g + l2 theta;  m <- b1 m + (1 - b1) d;  v <- b2 v + (1 - b2) d^2
//   theta <- theta - lr wd theta - lr / (1 - b1^t) m r sqrt(1 - b2^t) / (sqrt(v) + eps)   where the variance is tractable,
//   theta <- theta - lr wd theta - lr / (1 - b1^t) m                                      in the first updates
//
// Host numbers: (lr, l2, eps, lr wd), (b1, 1 - b1, b2, 1 - b2). The correction: 1 / (1 - b1^t), r sqrt(1 - b2^t) or 0.

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
    var step = m;
    if f.corrected.y > 0.0 {
        step = m * f.corrected.y / (sqrt(v) + f.rates.z);
    }
    return Moved(x - (f.rates.w * x + f.rates.x * f.corrected.x * step), Moments(m, v));
}
