// Gradient of a depthwise convolution with respect to its filters (with `conv2d/depthwise_common.wgsl` and `conv2d/depthwise_window.wgsl`):
//   dw[s, c, u, v] = sum over (n, i, j) in part s of dy[n, c, i, j] * x[n, c, i*stride - padding + u, j*stride - padding + v]
// A part is `each` strips of COLUMNS columns of images; a second kernel adds the parts in ascending order.
//
// x:  [batch, channels, in_height, in_width], in quads
// dy: [batch, channels, out_height, out_width], in quads
// dw: [splits, channels, KERNEL_HEIGHT, KERNEL_WIDTH]
//
// Grid: ceil(channels * splits / GROUP) workgroups, folded freely over x and y.
// Loops: each * (2 + out_height + KERNEL_HEIGHT) iterations an invocation, times 3 * COLUMNS where nothing is unrolled.

fn work(task: u32) {
    let channel = task / p.splits;
    if channel >= p.channels {
        return;
    }
    let split = task - channel * p.splits;
    let segments = (p.out_width + COLUMNS - 1u) / COLUMNS;
    let strip_end = min((split + 1u) * p.each, p.planes / p.channels * segments);

    var sum: array<f32, TAPS>;
    for (var strip = split * p.each; strip < strip_end; strip++) {
        let image = strip / segments;
        let plane = image * p.channels + channel;
        let first_column = (strip - image * segments) * COLUMNS;
        // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
        let left = first_column * STRIDE_WIDTH - PADDING_WIDTH;
        // The last row of `gradient` is the newest of dy, the first the one that is left next.
        var gradient: array<array<f32, COLUMNS>, ACTIVE>;
        for (var t = 0u; t < p.out_height + ACTIVE - 1u; t++) {
            // Loops that count down and copies of whole rows go wrong on some GL drivers.
            for (var a = 0u; a + 1u < ACTIVE; a++) {
                for (var j = 0u; j < COLUMNS; j++) {
                    gradient[a][j] = gradient[min(a + 1u, ACTIVE - 1u)][j];
                }
            }
            let dy_line = (plane * p.out_height + t) * p.out_width;
            if WHOLE_Y {
                for (var j = 0u; j < COLUMNS; j += 4u) {
                    let inside = t < p.out_height && first_column + j < p.out_width;
                    let quad = dy[select(0u, dy_line + first_column + j, inside) / 4u];
                    gradient[ACTIVE - 1u][j] = select(0.0, from_b(quad.x), inside);
                    gradient[ACTIVE - 1u][j + 1u] = select(0.0, from_b(quad.y), inside);
                    gradient[ACTIVE - 1u][j + 2u] = select(0.0, from_b(quad.z), inside);
                    gradient[ACTIVE - 1u][j + 3u] = select(0.0, from_b(quad.w), inside);
                }
            } else {
                for (var j = 0u; j < COLUMNS; j++) {
                    let inside = t < p.out_height && first_column + j < p.out_width;
                    let at = select(0u, dy_line + first_column + j, inside);
                    gradient[ACTIVE - 1u][j] = select(0.0, from_b(dy[at / 4u][at % 4u]), inside);
                }
            }
            for (var q = 0u; q < min(STRIDE_HEIGHT, KERNEL_HEIGHT); q++) {
                let row = t * STRIDE_HEIGHT + q - p.padding_height;
                let row_inside = row < p.in_height;
                let line = (plane * p.in_height + row) * p.in_width;
                var window: array<f32, 4u * QUADS>;
                read_window(&window, line, left, row_inside);
                for (var a = 0u; a < ACTIVE; a++) {
                    let u = (ACTIVE - 1u - a) * STRIDE_HEIGHT + q;
                    if u < KERNEL_HEIGHT {
                        for (var v = 0u; v < KERNEL_WIDTH; v++) {
                            for (var j = 0u; j < COLUMNS; j++) {
                                sum[u * KERNEL_WIDTH + v] += gradient[a][j] * window[BEFORE + j * STRIDE_WIDTH + v];
                            }
                        }
                    }
                }
            }
        }
    }
    for (var t = 0u; t < TAPS; t++) {
        let index = (split * p.channels + channel) * TAPS + t;
        dw[index] = epilogue(sum[t], index);
    }
}
