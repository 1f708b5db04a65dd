// With momentum (`optim/sgd.wgsl`).

fn step_of(d: vec4<f32>, old: Moments, f: Factors) -> Step {
    let u = f.rates.z * old.momentum + f.rates.w * d;
    return Step(f.shares.x * d + f.shares.y * u, Moments(u));
}
