// Floats side by side in a buffer, a vector V at a time: here four. `shared/vectors_eights.wgsl` has the same of eight.
//
// A kernel that takes either reads V, works on its PARTS with `part(x, k)` and writes `joined(parts)`.

alias V = vec4<f32>;
const PARTS: u32 = 1u;

fn part(x: V, k: u32) -> vec4<f32> {
    return x;
}

// The number of element l of part k of vector i.
fn element(i: u32, k: u32, l: u32) -> u32 {
    return 4u * i + l;
}

fn joined(parts: array<vec4<f32>, PARTS>) -> V {
    return parts[0];
}
