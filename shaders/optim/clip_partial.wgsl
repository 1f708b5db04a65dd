// What the first of two passes over the gradient norm does with a workgroup's result. `optim/clip_norm.wgsl` follows.

@group(0) @binding(1) var<storage, read_write> partial: array<vec2<f32>>;

fn finish(sum: f32, bad: f32, group: u32) {
    partial[p.first + group] = vec2<f32>(sum, bad);
}

fn settle(lane: u32) {}
