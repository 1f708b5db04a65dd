// Stochastic gradient descent with momentum (torch.optim.SGD), a rule of `optim/update.wgsl`:
//
//   d <- g + wd theta;  u <- mu u + (1 - dampening) d  (u <- d the first time)
//   theta <- theta - lr u,  or with Nesterov's momentum  theta - lr (d + mu u)
//
// with g the clipped gradient; u is `velocity`, and each arena is of V. Factors: (lr, wd, factor of the old u, factor of d in u), (factor of d in the step,
// factor of u in the step, 0, 0). The factor of d in u is the correction of the class.

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
}

fn factors_at(at: u32, correction: vec2<f32>) -> Factors {
    return Factors(vec4<f32>(factor(at).xyz, correction.x), factor(at + 1u));
}

fn apply(i: u32, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    let old_velocity = velocity[i];
    var x: array<vec4<f32>, PARTS>;
    var u: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        x[k] = part(old, k);
        let d = part(gradient, k) * clip + f.rates.y * x[k];
        u[k] = f.rates.z * part(old_velocity, k) + f.rates.w * d;
        x[k] -= f.rates.x * (f.shares.x * d + f.shares.y * u[k]);
    }
    velocity[i] = joined(u);
    theta[i] = joined(x);
}
