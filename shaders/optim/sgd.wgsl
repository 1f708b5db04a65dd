// Stochastic gradient descent (torch.optim.SGD), a rule of `optim/update.wgsl`:
//
//   d <- g + wd theta;  u <- mu u + (1 - dampening) d  (u <- d the first time)
//   theta <- theta - lr u,  or with Nesterov's momentum  theta - lr (d + mu u)
//
// with g the clipped gradient. Host numbers: (lr, wd, factor of the old u, 0), (factor of d in the step, factor of u in the step,
// factor of d in u, 0). The factor of d in u is the correction of the class. Asks for: `step_of(d, old, f) -> Step`.

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
}

// The direction, and what is kept.
struct Step {
    d: vec4<f32>,
    kept: Moments,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(vec4<f32>(factor(at).xyz, corrected.x), factor(at + 1u));
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let step = step_of(g + f.rates.y * x, old, f);
    return Moved(x - f.rates.x * step.d, step.kept);
}
