// Weighted sums along three axes: y[i] = sum over (d, h, w) of weight(i_d, d) weight(i_h, h) weight(i_w, w) x[d, h, w].
//
// x  [planes, depth, height, width]
// y  [planes, out_depth, out_height, out_width], through `epilogue`
//
// Workgroups: ceil(elements / 64). Iterations: product of (1 + elements that a result takes) over the axes.

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let a = line_of(0u);
    let b = line_of(1u);
    let c = line_of(2u);
    var rest = index / c.output;
    let columns = taps_of(c, index - rest * c.output);
    var outer = rest / b.output;
    let rows = taps_of(b, rest - outer * b.output);
    let plane = outer / a.output;
    let slices = taps_of(a, outer - plane * a.output);
    var sum = 0.0;
    for (var d = slices.begin; d < slices.end; d++) {
        var slice = 0.0;
        for (var h = rows.begin; h < rows.end; h++) {
            let line = ((plane * a.input + d) * b.input + h) * c.input;
            var row = 0.0;
            for (var w = columns.begin; w < columns.end; w++) {
                row += weight(columns, w) * from_a(x[line + w]);
            }
            slice += weight(rows, h) * row;
        }
        sum += weight(slices, d) * slice;
    }
    y[index] = epilogue(sum, index);
}
