// Changes gradients by what was summed over their units (`optim/units.wgsl`): g <- g x - y, with (x, y) = change_of(sums, elements).
// Where a sum is not finite gradients become NaN, for which the step is refused.
//
// blocks     [blocks of 64 elements], 0 to leave it alone, 1 + the number of the parameter
// owners     [parameters], its first element, how many it has, how many a unit has, the number of its first unit
// sums       two a unit
// gradients  floats
//
// Asks for: `change_of(sums, elements)`; `const EACH`, a divisor of 64; p.nan, the bits of NaN.
// One invocation EACH elements; workgroups: ceil(elements / (64 EACH)). Iterations: EACH.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = ((group.x + group.y * groups.x) * 64u + lane) * EACH;
    if start >= p.elements {
        return;
    }
    let number = blocks[start / 64u];
    if number == 0u {
        return;
    }
    let owner = owners[number - 1u];
    let end = min(start + EACH, owner.x + owner.y);
    var unit = 0xffffffffu;
    var change = vec2<f32>(0.0);
    var bad = false;
    for (var i = start; i < end; i++) {
        let own = owner.w + (i - owner.x) / owner.z;
        if own != unit {
            unit = own;
            let sum = sums[unit];
            change = change_of(sum, owner.z);
            // By their bits: compilers may assume that there is no NaN.
            bad = any((bitcast<vec2<u32>>(sum) & vec2<u32>(0x7f800000u)) == vec2<u32>(0x7f800000u));
        }
        gradients[i] = select(gradients[i] * change.x - change.y, bitcast<f32>(p.nan), bad);
    }
}
