// Stochastic gradient descent without momentum, a rule of `optim/update.wgsl`: theta <- theta - lr (g + wd theta) with g the
// clipped gradient; each arena is of V. Factors: (lr, wd, ..), (..).

struct Factors {
    rates: vec4<f32>,
}

fn factors_at(at: u32, correction: vec2<f32>) -> Factors {
    return Factors(factor(at));
}

fn apply(i: u32, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        x[k] = part(old, k);
        x[k] -= f.rates.x * (part(gradient, k) * clip + f.rates.y * x[k]);
    }
    theta[i] = joined(x);
}
