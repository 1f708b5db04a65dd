// Second pass over the gradient norm: status = (norm, clip factor, 1 if the update is to be skipped, 0).
//
// factor = min(1, largest / (norm + 1e-6)) where `largest` is not 0, else 1 (clip_grad_norm_ of PyTorch).
// Put in front of this text: nothing. Bindings: 0 partial results (read): (sum, 1 if not finite), 1 status (written),
// 13 operands: `largest` is word p.word. One workgroup. Iterations: partials / 64.

struct Params {
    partials: u32,
    word: u32,
}

@group(0) @binding(0) var<storage, read> partial: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> status: array<vec4<f32>>;
@group(0) @binding(13) var<uniform> operands: array<vec4<u32>, 1024>;
@group(0) @binding(15) var<uniform> p: Params;

var<workgroup> sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = vec2<f32>(0.0);
    for (var i = lane; i < p.partials; i += 64u) {
        sum += partial[i];
    }
    sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    if lane == 0u {
        let norm = sqrt(sums[0].x);
        let largest = bitcast<f32>(operands[p.word / 4u].x);
        var factor = 1.0;
        var skipped = sums[0].y > 0.0;
        if largest > 0.0 {
            factor = min(1.0, largest / (norm + 1e-6));
            // A norm beyond f32 has no factor.
            skipped = skipped || (bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u;
        }
        status[0] = vec4<f32>(norm, factor, f32(skipped), 0.0);
    }
}
