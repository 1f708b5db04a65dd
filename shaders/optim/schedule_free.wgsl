// Schedule-free SGD and AdamW (Defazio et al. 2024), rules of `optim/update.wgsl`; theta is the point y where gradients are taken:
//
//   d <- g (of AdamW: g / (sqrt(v / (1 - b2^t)) + eps)) + wd y
//   y <- (1 - c) y + c z + lr (b1 (1 - c) - 1) d;  z <- z - lr d,  with c = weight / sum of the weights so far
//
// Host numbers: (lr, wd, eps, b1), (b2, 1 - b2, ..). The correction: c, lr of this update, 1 / sqrt(1 - b2^t), 1 in the first update, where
// z is y. Asks for: `sized(g, old, f) -> Sized`, the direction, and the moments with all but z moved.

struct Factors {
    rates: vec4<f32>,
    shares: vec4<f32>,
    corrected: vec4<f32>,
}

struct Sized {
    d: vec4<f32>,
    kept: Moments,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), corrected);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    let sized = sized(g, old, f);
    let d = sized.d + f.rates.y * x;
    let z = select(old.z, x, f.corrected.w > 0.0);
    let c = f.corrected.x;
    let lr = f.corrected.y;
    var kept = sized.kept;
    kept.z = z - lr * d;
    return Moved(x + c * (z - x) + lr * (f.rates.w * (1.0 - c) - 1.0) * d, kept);
}
