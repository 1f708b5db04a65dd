// average <- average + share (theta - average), for `optim/average.wgsl`: a weight that stays as it is has an average that does.

fn take(i: u32, share: f32) {
    let weight = theta[i];
    let old = average[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let own = part(weight, k);
        let before = part(old, k);
        x[k] = select(before + share * (own - before), own, share == 1.0);
    }
    average[i] = joined(x);
}
