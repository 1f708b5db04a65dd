// Centred (`optim/rmsprop.wgsl`). Rounding can make the difference negative where gradients hardly change.

fn centred(kept: Moments, d: vec4<f32>, f: Factors) -> Moments {
    var moved = kept;
    moved.mean = f.shares.x * kept.mean + f.shares.y * d;
    return moved;
}

fn variance(kept: Moments) -> vec4<f32> {
    return max(kept.square - kept.mean * kept.mean, vec4<f32>(0.0));
}
