// The gradient of weighted sums along three axes, as a gather: dx[d, h, w] = sum over the results i of
// weight(i_d, d) weight(i_h, h) weight(i_w, w) dy[i], in their order.
//
// dy  [planes, out_depth, out_height, out_width]
// dx  [planes, depth, height, width], through `epilogue`
//
// Workgroups: ceil(elements / 64). Iterations: product of (1 + results looked at) over the axes.

fn weight_of(line: Line, i: u32, j: u32) -> f32 {
    let taps = taps_of(line, i);
    return select(0.0, weight(taps, j), taps.begin <= j && j < taps.end);
}

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let a = line_of(0u);
    let b = line_of(1u);
    let c = line_of(2u);
    var rest = index / c.input;
    let w = index - rest * c.input;
    var outer = rest / b.input;
    let h = rest - outer * b.input;
    let plane = outer / a.input;
    let d = outer - plane * a.input;
    let slices = users_of(a, d);
    let rows = users_of(b, h);
    let columns = users_of(c, w);
    var sum = 0.0;
    for (var i = slices.x; i < slices.y; i++) {
        let by_slice = weight_of(a, i, d);
        if by_slice == 0.0 {
            continue;
        }
        for (var j = rows.x; j < rows.y; j++) {
            let by_row = by_slice * weight_of(b, j, h);
            if by_row == 0.0 {
                continue;
            }
            let line = ((plane * a.output + i) * b.output + j) * c.output;
            var row = 0.0;
            for (var k = columns.x; k < columns.y; k++) {
                let by_column = weight_of(c, k, w);
                if by_column != 0.0 {
                    row += by_column * from_a(dy[line + k]);
                }
            }
            sum += by_row * row;
        }
    }
    dx[index] = epilogue(sum, index);
}
