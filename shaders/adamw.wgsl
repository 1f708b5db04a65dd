// AdamW (Loshchilov and Hutter 2019, algorithm 2) over one arena:
//
//   m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   theta <- theta - lr ((m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + wd theta)
//
// with g the clipped gradient. Put in front of this text: `const VECTORS`, 1 to 16 and a power of two, and
// `fn factor(at)`, a vector of factors: of the operands, or of an arena under loss scaling. Bindings: 0 theta (written),
// 1 gradients (read), 2 m, 3 v (written), 4 class of each block of 64 elements (read; 0: leave alone), 5 status (read): (norm, clip factor,
// 1 to skip the update, error). Factors from word p.word on, two vectors for each class from 1 on:
// (lr / (1 - b1^t), 1 / sqrt(1 - b2^t), eps, lr wd), (b1, 1 - b1, b2, 1 - b2).
// One invocation VECTORS vectors of four elements; workgroups: ceil(vectors / (64 VECTORS)). Iterations: VECTORS.

struct Params {
    vectors: u32,
    word: u32,
}

@group(0) @binding(0) var<storage, read_write> theta: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> first: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> second: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> classes: array<f32>;
@group(0) @binding(5) var<storage, read> status: array<vec4<f32>>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = ((group.x + group.y * groups.x) * 64u + lane) * VECTORS;
    if start >= p.vectors {
        return;
    }
    // All vectors of an invocation lie in one block of 64 elements.
    let class_number = u32(classes[start / 16u]);
    let state = status[0];
    if class_number == 0u || state.z != 0.0 {
        return;
    }
    let at = p.word / 4u + (class_number - 1u) * 2u;
    let rates = factor(at);
    let betas = factor(at + 1u);
    for (var i = start; i < min(start + VECTORS, p.vectors); i++) {
        let g = gradients[i] * state.y;
        let m = betas.x * first[i] + betas.y * g;
        let v = betas.z * second[i] + betas.w * (g * g);
        let x = theta[i];
        first[i] = m;
        second[i] = v;
        theta[i] = x - (rates.w * x + rates.x * m / (sqrt(v) * rates.y + rates.z));
    }
}
