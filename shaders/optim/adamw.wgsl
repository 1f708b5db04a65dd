// AdamW (Loshchilov and Hutter 2019, algorithm 2), a rule of `optim/update.wgsl`:
//
//   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   theta <- theta - lr ((m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + wd theta)
//
// with g the clipped gradient; m is `first`, v is `second`, and each arena is of V. Host numbers: (lr, 1, eps, lr wd), (b1, 1 - b1, b2, 1 - b2); the correction of the class:
// (1 / (1 - b1^t), 1 / sqrt(1 - b2^t)).

struct Factors {
    rates: vec4<f32>,
    betas: vec4<f32>,
}

fn factors_at(at: u32, correction: vec2<f32>) -> Factors {
    let rates = factor(at);
    return Factors(vec4<f32>(rates.x * correction.x, rates.y * correction.y, rates.zw), factor(at + 1u));
}

fn apply(i: u32, clip: f32, f: Factors) {
    let old = theta[i];
    let gradient = gradients[i];
    let old_first = first[i];
    let old_second = second[i];
    var x: array<vec4<f32>, PARTS>;
    var m: array<vec4<f32>, PARTS>;
    var v: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let g = part(gradient, k) * clip;
        m[k] = f.betas.x * part(old_first, k) + f.betas.y * g;
        v[k] = f.betas.z * part(old_second, k) + f.betas.w * (g * g);
        x[k] = part(old, k);
        x[k] -= f.rates.w * x[k] + f.rates.x * m[k] / (sqrt(v[k]) * f.rates.y + f.rates.z);
    }
    first[i] = joined(m);
    second[i] = joined(v);
    theta[i] = joined(x);
}
