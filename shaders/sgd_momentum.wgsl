// Stochastic gradient descent with momentum over one arena (torch.optim.SGD):
//
//   d <- g + wd theta;  u <- mu u + (1 - dampening) d  (u <- d the first time)
//   theta <- theta - lr u,  or with Nesterov's momentum  theta - lr (d + mu u)
//
// with g the clipped gradient. Put in front of this text: `const VECTORS`, 1 to 16 and a power of two, and
// `fn factor(at)`, a vector of factors: of the operands, or of an arena under loss scaling. Bindings: 0 theta (written),
// 1 gradients (read), 2 u
// (written), 3 class of each block of 64 elements (read; 0: leave alone), 4 status (read): (norm, clip factor, 1 to skip
// the update, error). Factors from word p.word on two vectors for each class from 1 on: (lr, wd, factor of the old u,
// factor of d in u), (factor of d in the step, factor of u in the step, 0, 0).
// One invocation VECTORS vectors of four elements; workgroups: ceil(vectors / (64 VECTORS)). Iterations: VECTORS.

struct Params {
    vectors: u32,
    word: u32,
}

@group(0) @binding(0) var<storage, read_write> theta: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> velocity: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> classes: array<f32>;
@group(0) @binding(4) var<storage, read> status: array<vec4<f32>>;
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
    let shares = factor(at + 1u);
    for (var i = start; i < min(start + VECTORS, p.vectors); i++) {
        let x = theta[i];
        let d = gradients[i] * state.y + rates.y * x;
        let u = rates.z * velocity[i] + rates.w * d;
        velocity[i] = u;
        theta[i] = x - rates.x * (shares.x * d + shares.y * u);
    }
}
