// What the first of two passes over the gradient norm does with a workgroup's result: partial[first + group] = (sum of squares, above 0 if
// any is not finite). `optim/clip_norm.wgsl` follows. binding 1  partial [groups] (written)

@group(0) @binding(1) var<storage, read_write> partial: array<vec2<f32>>;

fn finish(sum: f32, bad: f32, group: u32) {
    partial[p.first + group] = vec2<f32>(sum, bad);
}

fn settle(lane: u32) {}
