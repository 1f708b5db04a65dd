// Philox 4x32-10 (Salmon et al. 2011): the same words as the crate's `rng` module.

// High and low words of a 32 x 32 bit product, from 16-bit halves.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let al = a & 0xffffu;
    let ah = a >> 16u;
    let bl = b & 0xffffu;
    let bh = b >> 16u;
    let low = al * bl;
    let middle = ah * bl + (low >> 16u);
    let cross = al * bh + (middle & 0xffffu);
    return vec2<u32>(ah * bh + (middle >> 16u) + (cross >> 16u), a * b);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let a = wide_product(c.x, 0xd2511f53u);
        let b = wide_product(c.z, 0xcd9e8d57u);
        c = vec4<u32>(b.x ^ c.y ^ k.x, b.y, a.x ^ c.w ^ k.y, a.y);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// The word of element `index` of a draw.
fn random_bits1(index: u32, seed_low: u32, seed_high: u32, draw_low: u32, draw_high: u32) -> u32 {
    let words = philox(vec4<u32>(index >> 2u, 1u, draw_low, draw_high), vec2<u32>(seed_low, seed_high));
    return words[index & 3u];
}

// Four lanes, which lie in one block: consecutive from a multiple of four, or all the same.
fn random_bits4(index: vec4<u32>, seed_low: vec4<u32>, seed_high: vec4<u32>, draw_low: vec4<u32>, draw_high: vec4<u32>) -> vec4<u32> {
    let words = philox(vec4<u32>(index.x >> 2u, 1u, draw_low.x, draw_high.x), vec2<u32>(seed_low.x, seed_high.x));
    return vec4<u32>(words[index.x & 3u], words[index.y & 3u], words[index.z & 3u], words[index.w & 3u]);
}

// Rounds to the nearest half-precision value where f16 is not available. What is too large is infinite, and NaN stays:
// packing them is not defined.
fn round_half1(x: f32) -> f32 {
    let near = unpack2x16float(pack2x16float(vec2<f32>(clamp(x, -65504.0, 65504.0), 0.0))).x;
    let infinite = bitcast<f32>((bitcast<u32>(x) & 0x80000000u) | 0x7f800000u);
    let ranged = select(near, infinite, abs(x) >= 65520.0);
    return select(ranged, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}

fn round_half4(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(round_half1(x.x), round_half1(x.y), round_half1(x.z), round_half1(x.w));
}
