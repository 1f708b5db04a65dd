// AdamW's direction (`optim/schedule_free.wgsl`).

fn sized(g: vec4<f32>, old: Moments, f: Factors) -> Sized {
    var kept = old;
    kept.v = f.shares.x * old.v + f.shares.y * (g * g);
    return Sized(g / (sqrt(kept.v) * f.corrected.z + f.rates.z), kept);
}
