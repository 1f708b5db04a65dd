// The sums of a workgroup of 64, (sum of squares, above 0 if any is not finite), joined as a tree in workgroup memory, in a fixed order, and
// passed to `finish(sum, bad, group)` by one invocation; then all call `settle(lane)`.

var<workgroup> sums: array<vec2<f32>, 64>;

fn pass_on(own: vec2<f32>, lane: u32, group: u32) {
    sums[lane] = own;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u {
        finish(sums[0].x, sums[0].y, group);
    }
    settle(lane);
}
