// Normalisation of each row: y = (x - mean) / sqrt(variance + epsilon) * w + b.
//
// Operands: x (through prologue), w and b [n] where there are any, result (through epilogue). Asks for `affine(x, j)`, which
// applies w and b, and `layer_norm/moments.wgsl`.

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    return affine(((x - begun) - state.mean) * state.square, j);
}
