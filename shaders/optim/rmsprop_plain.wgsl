// Not centred (`optim/rmsprop.wgsl`).

fn centred(kept: Moments, d: vec4<f32>, f: Factors) -> Moments {
    return kept;
}

fn variance(kept: Moments) -> vec4<f32> {
    return kept.square;
}
