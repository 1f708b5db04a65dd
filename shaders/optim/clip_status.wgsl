// Second pass over the gradient norm: adds the partial results and passes them to `finish` and `settle` of `optim/tally.wgsl`, by
// `optim/clip_tree.wgsl`.
//
// partial  [partials], (sum, above 0 if not finite)
//
// One workgroup. Iterations: partials / 64, and those of `settle`.

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>(0.0);
    for (var i = lane; i < p.partials; i += 64u) {
        sum += partial[i];
    }
    pass_on(sum, lane, 0u);
}
