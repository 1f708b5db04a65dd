// Host numbers of a group, the five vectors from word p.word on: loaded once for all that an invocation does, which calls `take_numbers`
// first (docs/software-drivers.md, "optimizers").

var<private> own_numbers: array<vec4<f32>, 5>;

fn take_numbers() {
    for (var k = 0u; k < 5u; k++) {
        own_numbers[k] = bitcast<vec4<f32>>(operands[p.word / 4u + k]);
    }
}

fn factor(at: u32) -> vec4<f32> {
    return own_numbers[at - p.word / 4u];
}
