// What the schedule-free rules (see `optim/schedule_free.wgsl`) need of update number `count`; they keep the sum of the weights, and the
// largest rate. Host numbers: the third vector has (ln b2 in two parts, updates of warm-up, power of the count in a weight), the fourth
// (power of the largest rate in a weight, the rate that is set, 0, 0).
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let constants = factor(at + 2u);
    let t = f32(count);
    let lr = factor(at).x * min(1.0, t / max(constants.z, 1.0));
    let largest = max(lr, kept.y);
    // The rate in units of the one that is set: its square could be too small for a float.
    let weights = factor(at + 3u);
    let of_rate = select(power_of_size(largest / weights.y, weights.x), 0.0, largest == 0.0);
    let weight = power_of_size(t, constants.w) * select(of_rate, 1.0, weights.x == 0.0);
    let sum = kept.x + weight;
    let c = select(weight / sum, 0.0, sum == 0.0);
    let root = 1.0 / sqrt(one_minus_power(constants.xy, count));
    return Corrected(vec4<f32>(c, lr, root, select(0.0, 1.0, count == 1u)), vec4<f32>(sum, largest, 0.0, 0.0));
}
