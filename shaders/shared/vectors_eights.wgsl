// For software drivers alone, to which 64 bits cost hardly more than 32 (docs/software-drivers.md): `shared/vectors.wgsl` with eight floats
// a vector, as four 64-bit words. Part 0 has the even ones, part 1 the odd ones.

alias V = vec4<u64>;
const PARTS: u32 = 2u;

fn part(x: V, k: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(vec4<u32>(x >> vec4<u32>(32u * k)));
}

// The number of element l of part k of vector i.
fn element(i: u32, k: u32, l: u32) -> u32 {
    return 8u * i + 2u * l + k;
}

fn joined(parts: array<vec4<f32>, PARTS>) -> V {
    let even = vec4<u64>(bitcast<vec4<u32>>(parts[0]));
    return even | (vec4<u64>(bitcast<vec4<u32>>(parts[1])) << vec4<u32>(32u));
}
