// Lion (Chen et al. 2023), a rule of `optim/update.wgsl`:
//
//   theta <- theta - lr (sign(b1 m + (1 - b1) g) + wd theta);  m <- b2 m + (1 - b2) g
//
// Host numbers: (lr, wd, 0, 0), (b1, 1 - b1, b2, 1 - b2).

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u));
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let direction = sign(f.betas.x * old.m + f.betas.y * g);
    let m = f.betas.z * old.m + f.betas.w * g;
    return Moved(x - f.rates.x * (direction + f.rates.y * x), Moments(m));
}
