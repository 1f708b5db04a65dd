// Gradient of average pooling over two axes, as a gather (no atomics, one owner an output):
//   dx[n, c, h, w] = sum over the windows (i, j) that cover (h, w) of dy[n, c, i, j] / divisor[i, j],
// added in row-major order of the windows; divisor as in avg_pool2d.
//
// binding 0  dy [planes, out_height, out_width]  planes = batch * channels
// binding 1  dx [planes, in_height, in_width]    through `epilogue`
//
// Constants (host prepends): GROUP = 64, invocations a workgroup; STRIDE_HEIGHT, STRIDE_WIDTH of the pooling;
// COLUMNS = 4, neighbouring columns of an invocation.
// Grid: ceil(planes * in_height * ceil(in_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: COLUMNS * (1 + h * (1 + w)) iterations an invocation, h = floor((kernel_height - 1) / stride_height) + 1, w alike.

// The windows [x, y) along one axis that cover padded position `at`: i * stride <= at <= i * stride + reach.
fn windows(at: u32, reach: u32, stride: u32, count: u32) -> vec2<u32> {
    let below = max(at, reach) - reach;
    return vec2<u32>((below + stride - 1u) / stride, min(at / stride + 1u, count));
}

// How many taps of window `i` lie inside the axis.
fn taps(i: u32, kernel: u32, stride: u32, padding: u32, size: u32) -> u32 {
    let first = max(i * stride, padding);
    let last = min(i * stride + kernel, size + padding);
    return max(last, first) - first;
}

fn work(span: u32) {
    let segments = (p.in_width + COLUMNS - 1u) / COLUMNS;
    let line = span / segments;
    let plane = line / p.in_height;
    if plane >= p.planes {
        return;
    }
    let row = line - plane * p.in_height;
    let column_begin = (span - line * segments) * COLUMNS;
    let column_end = min(column_begin + COLUMNS, p.in_width);
    let rows = windows(row + p.padding_height, p.kernel_height - 1u, STRIDE_HEIGHT, p.out_height);
    let base = plane * p.out_height * p.out_width;

    for (var column = column_begin; column < column_end; column++) {
        let columns = windows(column + p.padding_width, p.kernel_width - 1u, STRIDE_WIDTH, p.out_width);
        var sum = 0.0;
        for (var i = rows.x; i < rows.y; i++) {
            let tap_rows = taps(i, p.kernel_height, STRIDE_HEIGHT, p.padding_height, p.in_height);
            for (var j = columns.x; j < columns.y; j++) {
                var divisor = p.kernel_height * p.kernel_width;
                if p.count_padding == 0u {
                    divisor = max(tap_rows * taps(j, p.kernel_width, STRIDE_WIDTH, p.padding_width, p.in_width), 1u);
                }
                sum += from_a(dy[base + i * p.out_width + j]) / f32(divisor);
            }
        }
        let index = line * p.in_width + column;
        dx[index] = epilogue(sum, index);
    }
}
