// For software drivers alone: what becomes of a sum of `gather/pairs.wgsl` where it is stored.

fn store(unit: u32, value: mat2x4<f32>) {
    let at = unit * 8u;
    let low = epilogue(vec4<f32>(value[0].x, value[1].x, value[0].y, value[1].y), at, 0u);
    let high = epilogue(vec4<f32>(value[0].z, value[1].z, value[0].w, value[1].w), at, 1u);
    result[unit] = pair_of(bitcast<vec4<u32>>(low), bitcast<vec4<u32>>(high));
}
