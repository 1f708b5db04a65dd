// First element, reciprocal standard deviation, and mean less the first element of each row; and a 0.
//
// Operands: x (through prologue), result [rows, 4]. Asks for `layer_norm/moments.wgsl`.

const RESULTS: u32 = 4u;

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    let numbers = vec4<f32>(lane_of(begun, 0u), lane_of(state.square, 0u), lane_of(state.mean, 0u), 0.0);
    return numbers[k];
}
