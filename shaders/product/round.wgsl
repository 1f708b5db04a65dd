// The nearest half-precision value, where f16 is not available. What is too large is infinite, and NaN stays: packing them
// is not defined.
fn to_half(x: f32) -> f32 {
    let near = unpack2x16float(pack2x16float(vec2<f32>(clamp(x, -65504.0, 65504.0), 0.0))).x;
    let infinite = bitcast<f32>((bitcast<u32>(x) & 0x80000000u) | 0x7f800000u);
    let ranged = select(near, infinite, abs(x) >= 65520.0);
    return select(ranged, x, (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u);
}
