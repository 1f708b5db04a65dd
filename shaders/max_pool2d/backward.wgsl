// Gradient of max pooling over two axes, as a gather (no atomics, one owner an output):
//   dx[n, c, h, w] = sum of dy[n, c, i, j] over the windows (i, j) whose winner is h * in_width + w,
// added in the row-major order of the windows. Only windows that cover (h, w) are looked at; the winner of each is found
// again from x, so that no index has to be stored.
//
// binding 0  x   [planes, in_height, in_width]    planes = batch * channels
// binding 1  dy  [planes, out_height, out_width]
// binding 2  dx  [planes, in_height, in_width]    through `epilogue`
//
// Constants (host prepends): GROUP = 64, invocations a workgroup; KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH
// of the pooling; COLUMNS = 4, neighbouring columns of an invocation.
// Grid: ceil(planes * in_height * ceil(in_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: COLUMNS * (1 + WINDOW_ROWS * (1 + WINDOW_COLUMNS * (1 + KERNEL_HEIGHT * (1 + KERNEL_WIDTH)))) iterations.

// So many windows can cover one position along either axis.
const WINDOW_ROWS: u32 = (KERNEL_HEIGHT - 1u) / STRIDE_HEIGHT + 1u;
const WINDOW_COLUMNS: u32 = (KERNEL_WIDTH - 1u) / STRIDE_WIDTH + 1u;

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
    let base = plane * p.out_height * p.out_width;
    let x_base = plane * p.in_height * p.in_width;
    // The first window that may cover the row. Negative numbers wrap and fail the test against the size; a window that
    // does not cover the element has another winner.
    let first_row = (row + p.padding_height) / STRIDE_HEIGHT - (WINDOW_ROWS - 1u);

    for (var column = column_begin; column < column_end; column++) {
        let pixel = row * p.in_width + column;
        let first_column = (column + p.padding_width) / STRIDE_WIDTH - (WINDOW_COLUMNS - 1u);
        var sum = 0.0;
        for (var t = 0u; t < WINDOW_ROWS; t++) {
            for (var s = 0u; s < WINDOW_COLUMNS; s++) {
                let i = first_row + t;
                let j = first_column + s;
                let inside = i < p.out_height && j < p.out_width;
                if inside && winner(x_base, i, j).at == pixel {
                    sum += from_b(dy[base + i * p.out_width + j]);
                }
            }
        }
        let index = line * p.in_width + column;
        dx[index] = epilogue(sum, index);
    }
}
