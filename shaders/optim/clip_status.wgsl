// Second pass over the gradient norm: adds the partial results and passes them to `finish` and `settle` of `optim/tally.wgsl`, by
// `optim/clip_tree.wgsl`, which stands in front.
//
// Bindings: 0 partial results (read): (sum, 1 if not finite), the others there. One workgroup. Iterations: partials / 64, and those of
// `settle`.

struct Params {
    partials: u32,
    word: u32,
    parameters: u32,
}

@group(0) @binding(0) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>(0.0);
    for (var i = lane; i < p.partials; i += 64u) {
        sum += partial[i];
    }
    pass_on(sum, lane, 0u);
}
