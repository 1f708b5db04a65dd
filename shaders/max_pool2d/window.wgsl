// The winner of a pooling window, for max pooling and its gradient: the first maximum of the taps inside the plane in row-major order; the
// last NaN wins over everything.
//
// binding 0  x [planes, in_height, in_width]    planes = batch * channels
// Constants (host prepends): KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH of the pooling.
// Loops: KERNEL_HEIGHT * (1 + KERNEL_WIDTH) iterations.

struct Winner {
    value: f32,
    // h * in_width + w
    at: u32,
}

fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

// Of window (i, j) of the plane that begins at `base`.
fn winner(base: u32, i: u32, j: u32) -> Winner {
    // Rows and columns left of or above the plane wrap to huge numbers and fail the one test against the size.
    let first_row = i * STRIDE_HEIGHT - p.padding_height;
    let first_column = j * STRIDE_WIDTH - p.padding_width;
    var best = 0.0;
    var best_at = 0xffffffffu;
    var found_nan = false;
    for (var u = 0u; u < KERNEL_HEIGHT; u++) {
        let row = first_row + u;
        for (var v = 0u; v < KERNEL_WIDTH; v++) {
            let column = first_column + v;
            let inside = row < p.in_height && column < p.in_width;
            let at = row * p.in_width + column;
            let value = from_a(x[select(0u, base + at, inside)]);
            let value_nan = is_nan(value);
            let better = inside && (value_nan || (!found_nan && (best_at == 0xffffffffu || value > best)));
            best = select(best, value, better);
            best_at = select(best_at, at, better);
            found_nan = found_nan || (inside && value_nan);
        }
    }
    return Winner(best, best_at);
}
