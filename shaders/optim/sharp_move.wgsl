// Keeps the weights of an arena, and moves them: theta <- theta + share g, or share t g with t = |theta| + eta in the adaptive form,
// where `optim/sharp_scale.wgsl` has put a t into g already.
//
// sharp     as `optim/sharp.wgsl` left it
// operands  eta at word p.word + 1
//
// Asks for: vectors V (`shared/vectors.wgsl`); `class_of(block)`; `const ADAPTIVE`. One invocation a vector; workgroups:
// ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.vectors {
        return;
    }
    let weight = theta[i];
    kept[i] = weight;
    let share = sharp[0].y;
    if share == 0.0 || class_of(i / (16u / PARTS)) == 0u {
        return;
    }
    let gradient = gradients[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let own = part(weight, k);
        var by = share * part(gradient, k);
        if ADAPTIVE {
            by *= abs(own) + factor(p.word / 4u).y;
        }
        x[k] = own + by;
    }
    theta[i] = joined(x);
}
