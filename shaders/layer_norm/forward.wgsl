// Normalisation of each row: y = (x - mean) / sqrt(variance + epsilon) * w + b.
//
// Bindings: 0 x (read, through prologue), then w and b [n] where there are any, then the result (written, through
// epilogue). Before this text: `affine(x, j)`, which applies w and b, their bindings, and `layer_norm/moments.wgsl`.

fn value(state: State, x: Item, begun: Row, j: u32) -> F {
    return affine(((x - begun) - state.mean) * state.square, j);
}
