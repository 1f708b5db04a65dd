// Rprop (Riedmiller and Braun 1993), a rule of `optim/update.wgsl`, as torch.optim.Rprop has it: a step of its own for each scalar, which
// grows where the gradient keeps its sign and shrinks where it changes; there nothing moves.
//
// Host numbers: (lr, factor to shrink, factor to grow, 0), (least step, largest step, 0, 0). The correction: 1 in the first update.

struct Factors {
    rates: vec4<f32>,
    bounds: vec4<f32>,
    first: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at), factor(at + 1u), corrected.x);
}

fn moved(x: vec4<f32>, g: vec4<f32>, old: Moments, f: Factors) -> Moved {
    // By signs: a product of small gradients could be 0.
    let agreement = sign(g) * sign(old.previous);
    let grown = select(vec4<f32>(1.0), vec4<f32>(f.rates.z), agreement > vec4<f32>(0.0));
    let scale = select(grown, vec4<f32>(f.rates.y), agreement < vec4<f32>(0.0));
    let before = select(old.step_size, vec4<f32>(f.rates.x), f.first > 0.0);
    let size = clamp(before * scale, vec4<f32>(f.bounds.x), vec4<f32>(f.bounds.y));
    let d = select(g, vec4<f32>(0.0), agreement < vec4<f32>(0.0));
    return Moved(x - sign(d) * size, Moments(d, size));
}
