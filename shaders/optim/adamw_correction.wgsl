// What AdamW (see `optim/adamw.wgsl`) multiplies its rate and the root of its second moment by in update number `count`; constants are the
// logarithms of b1 and b2, in two parts each.
fn correction(constants: vec4<f32>, count: u32) -> vec2<f32> {
    return vec2<f32>(1.0 / one_minus_power(constants.xy, count), 1.0 / sqrt(one_minus_power(constants.zw, count)));
}
