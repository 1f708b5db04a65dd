// Factors of AdamW (see adamw.wgsl) after `count` updates with this one, from those of t = infinity; constants are the
// logarithms of b1 and b2.
fn corrected(settled: array<vec4<f32>, 2>, constants: vec4<f32>, count: f32) -> array<vec4<f32>, 2> {
    var rates = settled[0];
    rates.x /= one_minus_exp(count * constants.x);
    rates.y = 1.0 / sqrt(one_minus_exp(count * constants.y));
    return array<vec4<f32>, 2>(rates, settled[1]);
}
