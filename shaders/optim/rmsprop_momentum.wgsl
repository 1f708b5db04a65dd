// With momentum (`optim/rmsprop.wgsl`).

fn pushed(kept: Moments, u: vec4<f32>, f: Factors) -> Moments {
    var moved = kept;
    moved.momentum = f.rates.w * kept.momentum + u;
    return moved;
}

fn step_of(kept: Moments, u: vec4<f32>) -> vec4<f32> {
    return kept.momentum;
}
