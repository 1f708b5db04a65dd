// What NAdam (see `optim/nadam.wgsl`) needs of update number `count`; it keeps the product of the mu so far. Host numbers: the
// third vector has (ln b2 in two parts, psi ln 0.96, 0).
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let b1 = factor(at + 1u).x;
    let constants = factor(at + 2u);
    let t = f32(count);
    let mu = b1 * (1.0 - 0.5 * exp_full(t * constants.z));
    let next = b1 * (1.0 - 0.5 * exp_full((t + 1.0) * constants.z));
    let product = mu * select(kept.x, 1.0, count == 1u);
    let root = 1.0 / sqrt(one_minus_power(constants.xy, count));
    return Corrected(
        vec4<f32>((1.0 - mu) / (1.0 - product), next / (1.0 - product * next), root, 0.0),
        vec4<f32>(product, 0.0, 0.0, 0.0),
    );
}
