// For software drivers alone, to which 64 bits cost hardly more than 32 (docs/software-drivers.md): what `gather/sum.wgsl` and
// `gather/chunks.wgsl` sum are eight floats, moved as four 64-bit words. The first row of a sum has the even ones, the second the odd ones.

alias G = vec4<u64>;

fn value_of(x: G) -> mat2x4<f32> {
    return mat2x4<f32>(bitcast<vec4<f32>>(vec4<u32>(x)), bitcast<vec4<f32>>(vec4<u32>(x >> vec4<u32>(32u))));
}

fn packed(x: mat2x4<f32>) -> G {
    return vec4<u64>(bitcast<vec4<u32>>(x[0])) | (vec4<u64>(bitcast<vec4<u32>>(x[1])) << vec4<u32>(32u));
}
