// Gradient of max pooling over two axes where windows do not overlap (stride at least the kernel): one invocation a cell
// of stride x stride elements, which belong to one window at most. It finds the window's winner in x and writes the whole
// cell: dy at the winner, 0 elsewhere. Each element of x is read once.
//
// binding 0  x   [planes, in_height, in_width]    planes = batch * channels
// binding 1  dy  [planes, out_height, out_width]
// binding 2  dx  [planes, in_height, in_width]    through `epilogue`
//
// Constants (host prepends): GROUP = 64, invocations a workgroup; KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH.
// Cells along an axis: ceil((size + padding) / stride). Grid: ceil(planes * cells / GROUP) workgroups, folded freely.
// Loops: KERNEL_HEIGHT * (1 + KERNEL_WIDTH) + STRIDE_HEIGHT * (1 + STRIDE_WIDTH) iterations an invocation.

fn work(cell: u32) {
    let rows = (p.in_height + p.padding_height + STRIDE_HEIGHT - 1u) / STRIDE_HEIGHT;
    let columns = (p.in_width + p.padding_width + STRIDE_WIDTH - 1u) / STRIDE_WIDTH;
    let line = cell / columns;
    let plane = line / rows;
    if plane >= p.planes {
        return;
    }
    let i = line - plane * rows;
    let j = cell - line * columns;
    let base = plane * p.in_height * p.in_width;
    var place = 0xffffffffu;
    var slope = 0.0;
    if i < p.out_height && j < p.out_width {
        place = winner(base, i, j).at;
        slope = from_b(dy[(plane * p.out_height + i) * p.out_width + j]);
    }
    for (var u = 0u; u < STRIDE_HEIGHT; u++) {
        let row = i * STRIDE_HEIGHT - p.padding_height + u;
        for (var v = 0u; v < STRIDE_WIDTH; v++) {
            let column = j * STRIDE_WIDTH - p.padding_width + v;
            if row < p.in_height && column < p.in_width {
                let at = row * p.in_width + column;
                let index = base + at;
                dx[index] = epilogue(select(0.0, slope, at == place), index);
            }
        }
    }
}
