// What an invocation of `optim/clip_norm.wgsl` or `optim/clip_norm_lanes.wgsl` has found of the gradients: the sum of their
// squares, and whether any is NaN or infinite, which bits tell: compilers may assume that x == x.
//
// gradients  of V

struct Found {
    sum: vec4<f32>,
    // Largest bits without the sign: those of NaN and infinity are above all others.
    worst: vec4<u32>,
}

// With vector i, if it counts.
fn including(found: Found, i: u32, counts: bool) -> Found {
    let gradient = gradients[i];
    var next = found;
    for (var k = 0u; k < PARTS; k++) {
        let g = select(vec4<f32>(0.0), part(gradient, k), counts);
        next.sum += g * g;
        next.worst = max(next.worst, bitcast<vec4<u32>>(g) & vec4<u32>(0x7fffffffu));
    }
    return next;
}

// (sum, 1 if any is not finite)
fn summed(found: Found) -> vec2<f32> {
    let sum = (found.sum.x + found.sum.y) + (found.sum.z + found.sum.w);
    return vec2<f32>(sum, f32(any(found.worst >= vec4<u32>(0x7f800000u))));
}
