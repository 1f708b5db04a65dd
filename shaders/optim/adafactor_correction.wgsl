// What Adafactor (see `optim/adafactor.wgsl`) needs of update number `count`.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let t = f32(count);
    let c = select(exp(factor(at + 1u).y * log(t)), 1.0, count == 1u);
    return Corrected(vec4<f32>(c, min(factor(at).x, 1.0 / sqrt(t)), 0.0, 0.0), kept);
}
