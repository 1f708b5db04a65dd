// 1 in the first update of a parameter, else 0.
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    return Corrected(vec4<f32>(select(0.0, 1.0, count == 1u)), kept);
}
