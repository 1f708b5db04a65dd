// What the first of two passes over the gradient norm does with a workgroup's result: partial[first + group] = (sum of squares, above 0 if
// any is not finite).

fn finish(sum: f32, bad: f32, group: u32) {
    partial[p.first + group] = vec2<f32>(sum, bad);
}

fn settle(lane: u32) {}
