// theta <- g: puts parameters where a search wants them. A rule of `optim/update.wgsl` without host numbers.

struct Factors {
    none: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(0.0);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    return Moved(g, old);
}
