// Without momentum (`optim/sgd.wgsl`).

fn step_of(d: vec4<f32>, old: Moments, f: Factors) -> Step {
    return Step(d, old);
}
