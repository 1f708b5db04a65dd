// Not centred (`optim/rmsprop.wgsl`).

fn spread(old: Moments, d: vec4<f32>, f: Factors) -> Moments {
    var kept = old;
    kept.square = f.shares.x * old.square + f.shares.y * (d * d);
    return kept;
}

fn size_squared(kept: Moments) -> vec4<f32> {
    return kept.square;
}
