// Sum of squares of the gradients in one arena, and whether any is NaN or infinite.
//
// Put in front of this text: `shared/vectors.wgsl` or `shared/vectors_wide.wgsl`, whose vectors p.vectors counts; `finish(sum, bad, group)`, which takes
// a workgroup's result: into the partial results (first of two passes) or, of a small arena that one workgroup sums, to a verdict,
// and `settle(lane)`, which all invocations call after it; and `class_of(block)`, the class of a block of 64 elements (0: its
// parameter is not part of this step), which may be p.class_number. Bindings: 0 gradients (read), from 1 on what `finish` writes.
// Workgroups: p.groups of 64. Iterations: vectors / (64 * groups), and those of `settle`.

struct Params {
    vectors: u32,
    groups: u32,
    // Of partial results: the number of the first.
    first: u32,
    // Of a verdict: the first operand, and how many parameters there are.
    word: u32,
    class_number: u32,
    parameters: u32,
}

@group(0) @binding(0) var<storage, read> gradients: array<V>;
@group(0) @binding(15) var<uniform> p: Params;

var<workgroup> sums: array<f32, 64>;
var<workgroup> broken: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var sum = vec4<f32>(0.0);
    var bad = false;
    for (var i = group.x * 64u + lane; i < p.vectors; i += p.groups * 64u) {
        if class_of(i / (16u / PARTS)) != 0u {
            let gradient = gradients[i];
            for (var k = 0u; k < PARTS; k++) {
                let g = part(gradient, k);
                // All bits of the exponent set: compilers may assume that x == x.
                bad = bad || any((bitcast<vec4<u32>>(g) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u));
                sum += g * g;
            }
        }
    }
    sums[lane] = (sum.x + sum.y) + (sum.z + sum.w);
    broken[lane] = u32(bad);
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
            broken[lane] |= broken[lane + half];
        }
    }
    if lane == 0u {
        finish(sums[0], f32(broken[0]), group.x);
    }
    settle(lane);
}
