// Depthwise convolution, NCHW (with `conv2d/depthwise_common.wgsl`, `conv2d/depthwise_window.wgsl`, and one of
// `conv2d/depthwise_quads.wgsl` and `conv2d/depthwise_elements.wgsl`):
//   y[n, c, i, j] = epilogue(sum over (u, v) of w[c, u, v] * x[n, c, i*stride - padding + u, j*stride - padding + v])
// Order of the sum: u, then v. Positions outside the plane count as 0. With FLIPPED the taps are taken from the last to the
// first: that, of dy and with a padding of kernel - 1 - padding, is the gradient with respect to x where the stride is 1.
//
// x:      [planes, in_height, in_width], in quads
// w:      [channels, KERNEL_HEIGHT, KERNEL_WIDTH]
// result: [planes, out_height, out_width], through `epilogue`
//
// Constants, besides those of the common part: FLIPPED: bool.
// Grid: ceil(planes * ceil(out_height / each) * ceil(out_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: each + KERNEL_HEIGHT iterations an invocation, times 2 * COLUMNS where nothing is unrolled.

fn work(span: u32) {
    let segments = (p.out_width + COLUMNS - 1u) / COLUMNS;
    let bands = (p.out_height + p.each - 1u) / p.each;
    let strip = span / segments;
    let plane = strip / bands;
    if plane >= p.planes {
        return;
    }
    let first_column = (span - strip * segments) * COLUMNS;
    let first_row = (strip - plane * bands) * p.each;
    let rows = min(p.each, p.out_height - first_row);
    // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
    let left = first_column * STRIDE_WIDTH - PADDING_WIDTH;

    var weight: array<f32, TAPS>;
    for (var t = 0u; t < TAPS; t++) {
        weight[t] = from_b(w[plane % p.channels * TAPS + select(t, TAPS - 1u - t, FLIPPED)]);
    }
    // sum[0] belongs to the row of the result that is finished next, the last to the newest.
    var sum: array<array<f32, COLUMNS>, ACTIVE>;
    for (var t = 0u; t < rows + ACTIVE - 1u; t++) {
        for (var q = 0u; q < min(STRIDE_HEIGHT, KERNEL_HEIGHT); q++) {
            let row = (first_row + t) * STRIDE_HEIGHT + q - p.padding_height;
            let row_inside = row < p.in_height;
            let line = (plane * p.in_height + row) * p.in_width;
            var window: array<f32, 4u * QUADS>;
            read_window(&window, line, left, row_inside);
            for (var a = 0u; a < ACTIVE; a++) {
                let u = (ACTIVE - 1u - a) * STRIDE_HEIGHT + q;
                if u < KERNEL_HEIGHT {
                    for (var v = 0u; v < KERNEL_WIDTH; v++) {
                        for (var j = 0u; j < COLUMNS; j++) {
                            sum[a][j] += weight[u * KERNEL_WIDTH + v] * window[BEFORE + j * STRIDE_WIDTH + v];
                        }
                    }
                }
            }
        }
        if t + 1u >= ACTIVE {
            let at = (plane * p.out_height + first_row + t + 1u - ACTIVE) * p.out_width;
            for (var j = 0u; j < COLUMNS; j += 4u) {
                store(at, first_column + j, p.out_width, vec4<f32>(sum[0][j], sum[0][j + 1u], sum[0][j + 2u], sum[0][j + 3u]));
            }
        }
        // Loops that count down and copies of whole rows go wrong on some GL drivers.
        for (var a = 0u; a < ACTIVE; a++) {
            for (var j = 0u; j < COLUMNS; j++) {
                sum[a][j] = select(0.0, sum[min(a + 1u, ACTIVE - 1u)][j], a + 1u < ACTIVE);
            }
        }
    }
}
