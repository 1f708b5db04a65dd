// Centred (`optim/rmsprop.wgsl`). The difference is kept, not formed: nothing would be left of it where gradients hardly change.

fn spread(old: Moments, d: vec4<f32>, f: Factors) -> Moments {
    let away = d - old.mean;
    var kept = old;
    kept.variance = f.shares.x * (old.variance + f.shares.y * (away * away));
    kept.mean = old.mean + f.shares.y * away;
    return kept;
}

fn size_squared(kept: Moments) -> vec4<f32> {
    return kept.variance;
}
