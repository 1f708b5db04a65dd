// For `attention/place.wgsl`: sums of weighted values divided by the sum of the weights, and its logarithm.
// A row that sees no key has 0, one with NaN or +inf among its scores NaN.

fn divided(value: F, row: u32, line: u32, is_first: bool) -> F {
    let state = stats[row];
    let is_blind = state.y == 0.0;
    let broken = select(1.0, nan(), state.w > 0.0);
    if is_first {
        let level = state.x + lane_of(log_full(F(max(state.y, 1.0e-30))), 0u);
        lse[line] = select(level, 0.0, is_blind) * broken;
    }
    return select(value * (1.0 / state.y), F(0.0), is_blind) * broken;
}

fn nan() -> f32 {
    return bitcast<f32>(0x7fc00000u + p.zero);
}
