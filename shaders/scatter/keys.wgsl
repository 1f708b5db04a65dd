// Floats as keys of the same order, so that whole numbers decide which is the largest; NaN is above all.

fn key_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let key = select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
    return select(key, 0xffffffffu, (bits & 0x7fffffffu) > 0x7f800000u);
}

fn value_of(key: u32) -> f32 {
    let bits = select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u);
    return bitcast<f32>(bits);
}
