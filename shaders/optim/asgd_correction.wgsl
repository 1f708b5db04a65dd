// What averaged SGD (see `optim/asgd.wgsl`) needs of update number `count`: the eta and mu that the update before has left, and those for
// the next one, eta = lr / (1 + lambda lr t)^alpha and mu = 1 / max(1, t - t0).
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let rates = factor(at);
    let t = f32(count);
    let own = select(kept.xy, vec2<f32>(rates.x, 1.0), count == 1u);
    let eta = rates.x * power_of_size(1.0 + rates.z * rates.x * t, -rates.w);
    let mu = 1.0 / max(1.0, t - factor(at + 1u).x);
    return Corrected(vec4<f32>(own, 0.0, 0.0), vec4<f32>(eta, mu, 0.0, 0.0));
}
