// The bits of a float as a key: those of negative numbers run backwards.

fn ascending(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let size = bits & 0x7fffffffu;
    let key = select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
    return select(key, 0xffffffffu, size > 0x7f800000u);
}
