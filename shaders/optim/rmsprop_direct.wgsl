// Without momentum (`optim/rmsprop.wgsl`).

fn pushed(kept: Moments, u: vec4<f32>, f: Factors) -> Moments {
    return kept;
}

fn step_of(kept: Moments, u: vec4<f32>) -> vec4<f32> {
    return u;
}
