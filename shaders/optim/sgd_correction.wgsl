// The share of the gradient that enters the momentum of SGD (see `optim/sgd_momentum.wgsl`): all of the first one.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    return Corrected(vec4<f32>(select(factor(at + 1u).z, 1.0, count == 1u)), kept);
}
