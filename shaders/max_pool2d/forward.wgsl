// Max pooling over two axes:
//   y[n, c, i, j] = max over (u, v) of x[n, c, i*stride - padding + u, j*stride - padding + v]
// over the taps inside the plane. The winner is the first one in row-major order; the last NaN wins over everything.
// Padding never takes part; the host rejects shapes with windows that lie in it wholly.
//
// binding 0  x      [planes, in_height, in_width]    planes = batch * channels
// Both results, [planes, out_height, out_width], are handed over: the value, and the winner's place h * in_width + w.
//
// Constants (host prepends): GROUP = 64, invocations a workgroup; KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH
// of the pooling; COLUMNS = 4, neighbouring columns of an invocation.
// Grid: ceil(planes * out_height * ceil(out_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: COLUMNS * (1 + KERNEL_HEIGHT * (1 + KERNEL_WIDTH)) iterations an invocation.
// Loops that surely have a round end where one does.

fn work(span: u32) {
    let segments = (p.out_width + COLUMNS - 1u) / COLUMNS;
    let line = span / segments;
    let plane = line / p.out_height;
    if plane >= p.planes {
        return;
    }
    let out_row = line - plane * p.out_height;
    let column_begin = (span - line * segments) * COLUMNS;
    let column_end = min(column_begin + COLUMNS, p.out_width);
    let base = plane * p.in_height * p.in_width;
    var out_column = column_begin;
    loop {
        let best = winner(base, out_row, out_column);
        let index = line * p.out_width + out_column;
        result_0(best.value, index);
        result_1(best.at, index);
        out_column++;
        if out_column >= column_end {
            break;
        }
    }
}
