// Gradient of a depthwise convolution with respect to its images, NCHW (with `conv2d/depthwise_common.wgsl` and one of
// `conv2d/depthwise_quads.wgsl` and `conv2d/depthwise_elements.wgsl`):
//   dx[n, c, h, l] = epilogue(sum over (u, v) of w[c, u, v] * dy[n, c, (h + padding - u) / stride, (l + padding - v) / stride])
// over the taps whose quotients are whole and inside. Order of the sum: u descending, then v.
//
// dy:     [planes, out_height, out_width], in quads
// w:      [channels, KERNEL_HEIGHT, KERNEL_WIDTH]
// result: [planes, in_height, in_width], through `epilogue`
//
// COLUMNS is a multiple of STRIDE_WIDTH. `each` counts rows of dx.
// Grid: ceil(planes * ceil(in_height / each) * ceil(in_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: each / STRIDE_HEIGHT + KERNEL_HEIGHT + 2 iterations an invocation, times 3 * COLUMNS where nothing is unrolled.

// Rows of dx that a row of dy takes part in, or that lie between it and the next.
const ACTIVE: u32 = max(KERNEL_HEIGHT, STRIDE_HEIGHT);
// Columns of dy before the one at a strip's first column, the first that a strip needs, and one past the last.
const REACH: u32 = (KERNEL_WIDTH + STRIDE_WIDTH - 1u) / STRIDE_WIDTH;
const FROM: u32 = (PADDING_WIDTH + REACH * STRIDE_WIDTH + STRIDE_WIDTH - KERNEL_WIDTH) / STRIDE_WIDTH;
const WINDOW: u32 = REACH + (COLUMNS - 1u + PADDING_WIDTH) / STRIDE_WIDTH + 1u;

fn work(span: u32) {
    let segments = (p.in_width + COLUMNS - 1u) / COLUMNS;
    let bands = (p.in_height + p.each - 1u) / p.each;
    let strip = span / segments;
    let plane = strip / bands;
    if plane >= p.planes {
        return;
    }
    let first_column = (span - strip * segments) * COLUMNS;
    let first_row = (strip - plane * bands) * p.each;
    let end_row = min(first_row + p.each, p.in_height);
    // The window begins at this column of dy. Positions left of or above the plane wrap to huge numbers and fail the one
    // test against the size.
    let left = first_column / STRIDE_WIDTH - REACH;

    var weight: array<f32, TAPS>;
    for (var t = 0u; t < TAPS; t++) {
        weight[t] = from_b(w[plane % p.channels * TAPS + t]);
    }
    // Rows of dy from the first that reaches first_row; lifted by KERNEL_HEIGHT so that none is negative.
    let begin = (first_row + p.padding_height + KERNEL_HEIGHT * STRIDE_HEIGHT - (KERNEL_HEIGHT - 1u)) / STRIDE_HEIGHT;
    let end = (end_row - 1u + p.padding_height) / STRIDE_HEIGHT + 1u + KERNEL_HEIGHT;
    // sum[u] belongs to the row of dx that tap u of the row of dy reaches.
    var sum: array<array<f32, COLUMNS>, ACTIVE>;
    for (var lifted = begin; lifted < end; lifted++) {
        let row = lifted - KERNEL_HEIGHT;
        let row_inside = row < p.out_height;
        let line = (plane * p.out_height + row) * p.out_width;
        var window: array<f32, WINDOW>;
        for (var k = FROM; k < WINDOW; k++) {
            let column = left + k;
            let inside = row_inside && column < p.out_width;
            let at = select(0u, line + column, inside);
            window[k] = select(0.0, from_a(dy[at / 4u][at % 4u]), inside);
        }
        for (var u = 0u; u < KERNEL_HEIGHT; u++) {
            for (var v = 0u; v < KERNEL_WIDTH; v++) {
                for (var l = 0u; l < COLUMNS; l++) {
                    let lifted_column = l + PADDING_WIDTH + REACH * STRIDE_WIDTH - v;
                    if lifted_column % STRIDE_WIDTH == 0u {
                        sum[u][l] += weight[u * KERNEL_WIDTH + v] * window[lifted_column / STRIDE_WIDTH];
                    }
                }
            }
        }
        // Rows of dx that no later row of dy reaches.
        for (var s = 0u; s < STRIDE_HEIGHT; s++) {
            let dx_row = row * STRIDE_HEIGHT + s - p.padding_height;
            if dx_row >= first_row && dx_row < end_row {
                let at = (plane * p.in_height + dx_row) * p.in_width;
                for (var l = 0u; l < COLUMNS; l += 4u) {
                    store(at, first_column + l, p.in_width, vec4<f32>(sum[s][l], sum[s][l + 1u], sum[s][l + 2u], sum[s][l + 3u]));
                }
            }
        }
        // Copies of whole rows go wrong on some GL drivers.
        for (var u = 0u; u < ACTIVE; u++) {
            for (var l = 0u; l < COLUMNS; l++) {
                sum[u][l] = select(0.0, sum[min(u + STRIDE_HEIGHT, ACTIVE - 1u)][l], u + STRIDE_HEIGHT < ACTIVE);
            }
        }
    }
}
