// `clip_norm.wgsl` without barriers, for software drivers: every invocation leaves its partial result (sum, 1 if not
// finite) at p.first + its number. An invocation takes blocks of 64 elements, so that a block's class is read once.
//
// Put in front of this text: nothing. Bindings as there. Workgroups: p.groups of 64.
// Iterations: 17 ceil(vectors / (16 * 64 * groups)).

struct Params {
    vectors: u32,
    groups: u32,
    first: u32,
}

@group(0) @binding(0) var<storage, read> gradients: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> classes: array<f32>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec2<f32>>;
@group(0) @binding(15) var<uniform> p: Params;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = group.x * 64u + lane;
    let blocks = (p.vectors + 15u) / 16u;
    var sum = vec4<f32>(0.0);
    var bad = vec4<bool>(false);
    for (var block = own; block < blocks; block += p.groups * 64u) {
        if classes[block] != 0.0 {
            let last = min(block * 16u + 16u, p.vectors);
            for (var i = block * 16u; i < last; i++) {
                let g = gradients[i];
                // All bits of the exponent set: compilers may assume that x == x.
                bad = bad | ((bitcast<vec4<u32>>(g) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u));
                sum += g * g;
            }
        }
    }
    partial[p.first + own] = vec2<f32>((sum.x + sum.y) + (sum.z + sum.w), f32(any(bad)));
}
