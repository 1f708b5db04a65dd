// SGD's direction (`optim/schedule_free.wgsl`).

fn sized(g: vec4<f32>, old: Moments, f: Factors) -> Sized {
    return Sized(g, old);
}
