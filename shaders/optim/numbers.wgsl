// Host numbers of a step.

fn factor(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(operands[at]);
}
