// What Adam (see `optim/adam.wgsl`) multiplies its rate and the root of its second moment by. Host numbers: the third
// vector has the logarithms of b1 and b2, in two parts each.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let logs = factor(at + 2u);
    let first = 1.0 / one_minus_power(logs.xy, count);
    let second = 1.0 / sqrt(one_minus_power(logs.zw, count));
    return Corrected(vec4<f32>(first, second, 0.0, 0.0), kept);
}
