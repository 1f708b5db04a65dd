// How far sharpness-aware minimisation moves the weights (Foret et al. 2021): the sum of squares of all gradients, in which the loss scale
// may be, becomes
//
//   sharp[0] = (norm, rho / norm, 1 if the loss or a gradient is not finite, 0); the second is 0 then, and for a norm of 0
//   scaling[2] = the third, for the verdict of the pass that ends the step (`optim/tally.wgsl`)
//
// operands  rho at word p.word
//
// `finish(sum, bad, group)` is called by one invocation, `settle(lane)` then by all. Asks for: `refuses_loss()`; p.word.

fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}

fn finish(sum: f32, bad: f32, group: u32) {
    let norm = sqrt(sum);
    let refused = bad > 0.0 || refuses_loss() || !is_finite(norm);
    let moves = !refused && norm > 0.0;
    let share = select(0.0, factor(p.word / 4u).x / norm, moves);
    sharp[0] = vec4<f32>(norm, share, f32(refused), 0.0);
    scaling[2] = f32(refused);
}

fn settle(lane: u32) {}
