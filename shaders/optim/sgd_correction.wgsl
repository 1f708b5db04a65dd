// The share of the gradient that enters the momentum of SGD (see `optim/sgd_momentum.wgsl`) in update number `count`: constants.x, but all of
// the first one.
fn correction(constants: vec4<f32>, count: u32) -> vec2<f32> {
    return vec2<f32>(select(constants.x, 1.0, count == 1u), 1.0);
}
