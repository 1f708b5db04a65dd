// g <- t g with t = |theta| + eta, for the adaptive form of sharpness-aware minimisation (Kwon et al. 2021).
//
// operands  eta at word p.word + 1
//
// Asks for: vectors V (`shared/vectors.wgsl`); `class_of(block)`. One invocation a vector; workgroups: ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.vectors || class_of(i / (16u / PARTS)) == 0u {
        return;
    }
    let eta = factor(p.word / 4u).y;
    let weight = theta[i];
    let gradient = gradients[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        x[k] = part(gradient, k) * (abs(part(weight, k)) + eta);
    }
    gradients[i] = joined(x);
}
