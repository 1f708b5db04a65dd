// Averaged SGD (Polyak and Juditsky 1992), a rule of `optim/update.wgsl`, as torch.optim.ASGD has it:
//
//   d <- g + wd theta;  theta <- theta (1 - lambda eta) - eta d;  a <- a + mu (theta - a)
//
// Host numbers: (lr, wd, lambda, alpha), (t0, 0, 0, 0). The correction: eta, mu.

struct Factors {
    rates: vec4<f32>,
    corrected: vec4<f32>,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), corrected);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let d = g + f.rates.y * x;
    let eta = f.corrected.x;
    // 1 - lambda eta, formed first, would lose the digits of lambda eta.
    let next = x - eta * (f.rates.z * x + d);
    let average = select(old.average + f.corrected.y * (next - old.average), next, f.corrected.y == 1.0);
    return Moved(next, Moments(average));
}
