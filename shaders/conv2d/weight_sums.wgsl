// The sums of a weight gradient that an invocation keeps in registers, LINES strips of TAPS taps x ROWS output channels, for
// `conv2d/weight_grad.wgsl`, which says what a strip is. Every invocation reads dy of each channel for itself;
// `conv2d/weight_sums_subgroup.wgsl` does the same for software drivers.
//
// Constants:
//   ROWS = 8                                       output channels of an invocation
//   GROUP = 8                                      invocations a workgroup (discrete GPU: 64)
//   LINES, TAPS, DILATION_WIDTH                    as the kernel's own text says, which has dy, and the windows' length WINDOW
// Loops over constants are unrolled.

// Elements of dy that an invocation reads a position.
const LOADS: u32 = ROWS;

struct Sums {
    kept: array<array<array<f32, TAPS>, ROWS>, LINES>,
}

// The channel of a tile whose dy a load reads.
fn channel_of(load: u32, lane: u32) -> u32 {
    return load;
}

// Adds the products of dy at a position, `at` behind the planes of the channels, with what the taps see there.
fn add_position(sum: ptr<function, Sums>, dy_plane: ptr<function, array<u32, LOADS>>, at: u32, windows: ptr<function, array<array<f32, WINDOW>, LINES>>) {
    var gradient: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        gradient[r] = from_b(dy[(*dy_plane)[r] + at]);
    }
    for (var i = 0u; i < LINES; i++) {
        for (var v = 0u; v < TAPS; v++) {
            let value = (*windows)[i][v * DILATION_WIDTH];
            for (var r = 0u; r < ROWS; r++) {
                (*sum).kept[i][r][v] += gradient[r] * value;
            }
        }
    }
}

// The first channel's sum of a tap. It is stored, and the others move up: one copy of the epilogue a tap instead of one an element.
fn first_sum(sum: ptr<function, Sums>, i: u32, v: u32) -> f32 {
    return (*sum).kept[i][0][v];
}

fn move_up(sum: ptr<function, Sums>, i: u32) {
    for (var r = 0u; r + 1u < ROWS; r++) {
        (*sum).kept[i][r] = (*sum).kept[i][min(r + 1u, ROWS - 1u)];
    }
}
