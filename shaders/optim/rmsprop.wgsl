// RMSprop (Hinton 2012), a rule of `optim/update.wgsl`, as torch.optim.RMSprop has it:
//
//   d <- g + wd theta;  s <- alpha s + (1 - alpha) d^2;  u = d / (sqrt(s) + eps);  theta <- theta - lr u
//   centred:   s is less a^2, with a the mean of d:  s <- alpha (s + (1 - alpha) (d - a)^2);  a <- a + (1 - alpha) (d - a)
//   momentum:  b <- mu b + u;  b in place of u in the step
//
// Host numbers: (lr, wd, eps, mu), (alpha, 1 - alpha, 0, 0). Asks for: `spread(old, d, f)`, which moves s, `size_squared(kept)`,
// which is s, `pushed(kept, u, f)`, which moves the momentum, and `step_of(kept, u)`.

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u));
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let spread = spread(old, d, f);
    let u = d / (sqrt(size_squared(spread)) + f.rates.z);
    let kept = pushed(spread, u, f);
    return Moved(x - f.rates.x * step_of(kept, u), kept);
}
