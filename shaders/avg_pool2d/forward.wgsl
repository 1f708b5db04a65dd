// Average pooling over two axes:
//   y[n, c, i, j] = sum over (u, v) of x[n, c, i*stride - padding + u, j*stride - padding + v] / divisor,
// taps outside the plane counting as 0. divisor = kernel_height * kernel_width when count_padding is not 0, else the
// number of taps inside the plane (at least 1).
//
// binding 0  x [planes, in_height, in_width]    planes = batch * channels
// binding 1  y [planes, out_height, out_width]  through `epilogue`
//
// Constants (host prepends): GROUP = 64, invocations a workgroup.
// Grid: ceil(planes * out_height * out_width / GROUP) workgroups, folded freely over x and y.
// Loops: kernel_height * (1 + kernel_width) iterations an invocation.

fn work(index: u32) {
    let out_area = p.out_height * p.out_width;
    let plane = index / out_area;
    if plane >= p.planes {
        return;
    }
    let pixel = index - plane * out_area;
    let out_row = pixel / p.out_width;
    let out_column = pixel - out_row * p.out_width;
    let base = plane * p.in_height * p.in_width;
    // The taps inside the plane, in rows and columns of the padded plane.
    let top = max(out_row * p.stride_height, p.padding_height);
    let bottom = min(out_row * p.stride_height + p.kernel_height, p.in_height + p.padding_height);
    let left = max(out_column * p.stride_width, p.padding_width);
    let right = min(out_column * p.stride_width + p.kernel_width, p.in_width + p.padding_width);

    var sum = 0.0;
    for (var row = top; row < bottom; row++) {
        let line = base + (row - p.padding_height) * p.in_width;
        for (var column = left; column < right; column++) {
            sum += from_a(x[line + column - p.padding_width]);
        }
    }
    var divisor = p.kernel_height * p.kernel_width;
    if p.count_padding == 0u {
        divisor = max((max(bottom, top) - top) * (max(right, left) - left), 1u);
    }
    y[index] = epilogue(sum / f32(divisor), index);
}
