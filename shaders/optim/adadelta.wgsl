// Adadelta (Zeiler 2012), a rule of `optim/update.wgsl`:
//
//   d <- g + wd theta;  s <- rho s + (1 - rho) d^2;  u = sqrt(a + eps) / sqrt(s + eps) d;  a <- rho a + (1 - rho) u^2
//   theta <- theta - lr u
//
// Host numbers: (lr, wd, eps, 0), (rho, 1 - rho, 0, 0).

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u));
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let s = f.shares.x * old.square + f.shares.y * (d * d);
    let u = sqrt(old.delta + f.rates.z) / sqrt(s + f.rates.z) * d;
    return Moved(x - f.rates.x * u, Moments(s, f.shares.x * old.delta + f.shares.y * (u * u)));
}
