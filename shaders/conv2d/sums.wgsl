// The sums of a convolution that an invocation keeps in registers, ROWS channels x COLUMNS neighbouring columns, for `conv2d/direct.wgsl` and
// `conv2d/data_grad.wgsl`. Every invocation reads each weight for itself; `conv2d/sums_subgroup.wgsl` does the same for software drivers.
//
// Constants:
//   ROWS = 8                         channels of an invocation (1 for depthwise)
//   GROUP = 8                        invocations a workgroup (discrete GPU: 64)
//   COLUMNS                          columns of an invocation
//   KERNEL_WIDTH                     taps of a row
// The kernel's own text has the weights w, and
//   WINDOW                           columns of the image that a row of taps reaches
//   fn tap_column(v: u32, j: u32)    the one of them that tap v brings to column j
// Loops over constants are unrolled.

// Weights that an invocation reads a tap.
const LOADS: u32 = ROWS;

struct Sums {
    kept: array<array<f32, COLUMNS>, ROWS>,
}

// The channel of a tile whose weights a load reads.
fn channel_of(load: u32, lane: u32) -> u32 {
    return load;
}

// Adds a row of taps, whose weights begin `step` behind `w_at`.
fn add_taps(sum: ptr<function, Sums>, w_at: ptr<function, array<u32, LOADS>>, step: u32, window: ptr<function, array<f32, WINDOW>>) {
    for (var r = 0u; r < ROWS; r++) {
        for (var v = 0u; v < KERNEL_WIDTH; v++) {
            let weight = from_b(w[(*w_at)[r] + step + v]);
            for (var j = 0u; j < COLUMNS; j++) {
                (*sum).kept[r][j] += weight * (*window)[tap_column(v, j)];
            }
        }
    }
}

// Adds one tap.
fn add_tap(sum: ptr<function, Sums>, w_at: ptr<function, array<u32, LOADS>>, step: u32, values: ptr<function, array<f32, COLUMNS>>) {
    for (var r = 0u; r < ROWS; r++) {
        let weight = from_b(w[(*w_at)[r] + step]);
        for (var j = 0u; j < COLUMNS; j++) {
            (*sum).kept[r][j] += weight * (*values)[j];
        }
    }
}

// The first channel's sum of a column. It is stored, and the others move up: one copy of the epilogue a column instead of one an element.
fn first_sum(sum: ptr<function, Sums>, j: u32) -> f32 {
    return (*sum).kept[0][j];
}

fn move_up(sum: ptr<function, Sums>) {
    for (var r = 0u; r + 1u < ROWS; r++) {
        (*sum).kept[r] = (*sum).kept[min(r + 1u, ROWS - 1u)];
    }
}
