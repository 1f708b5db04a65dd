// What Adagrad (see `optim/adagrad.wgsl`) needs of update number `count`. Host numbers: (decay of the rate, ..) in the second vector.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let slower = 1.0 / (1.0 + f32(count - 1u) * factor(at + 1u).x);
    return Corrected(vec4<f32>(slower, select(0.0, 1.0, count == 1u), 0.0, 0.0), kept);
}
