// Factors of SGD (see sgd_momentum.wgsl) for update number `count`: dampening begins with the second.
fn corrected(settled: array<vec4<f32>, 2>, constants: vec4<f32>, count: f32) -> array<vec4<f32>, 2> {
    var rates = settled[0];
    rates.w = select(rates.w, constants.x, count == 1.0);
    return array<vec4<f32>, 2>(rates, settled[1]);
}
