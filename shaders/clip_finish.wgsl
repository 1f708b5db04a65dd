// The sum of squares of all gradients to the status: (norm, clip factor, 1 if the update is to be skipped, the
// same: it is an error).
//
// factor = min(1, largest / (norm + 1e-6)) where `largest` is not 0, else 1 (clip_grad_norm_ of PyTorch). `largest` is word
// p.word of the operands. Bindings: 1 status (written), 13 operands. `clip_norm.wgsl` or `clip_status.wgsl` follows.

@group(0) @binding(1) var<storage, read_write> status: array<vec4<f32>>;
@group(0) @binding(13) var<uniform> operands: array<vec4<u32>, 1024>;

fn finish(sum: f32, bad: f32, group: u32) {
    let norm = sqrt(sum);
    let largest = bitcast<f32>(operands[p.word / 4u].x);
    var factor = 1.0;
    var skipped = bad > 0.0;
    if largest > 0.0 {
        factor = min(1.0, largest / (norm + 1e-6));
        // A norm beyond f32 has no factor.
        skipped = skipped || (bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u;
    }
    status[group] = vec4<f32>(norm, factor, f32(skipped), f32(skipped));
}
