// First element, reciprocal standard deviation, and mean less the first element of each row; and a 0.
//
// Bindings: 0 x (read, through prologue), 1 result [rows, 4] (written). `layer_norm/moments.wgsl` stands before this text.

const RESULTS: u32 = 4u;

@group(0) @binding(1) var<storage, read_write> result: array<f32>;

fn row_value(state: State, begun: Row, k: u32) -> f32 {
    switch k {
        case 0u: {
            return lane_of(begun, 0u);
        }
        case 1u: {
            return lane_of(state.square, 0u);
        }
        case 2u: {
            return lane_of(state.mean, 0u);
        }
        default: {
            return 0.0;
        }
    }
}
