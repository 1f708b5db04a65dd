// Gradient of max pooling over three axes, as a gather: dx[j] = sum of dy[i] over the windows i whose winner is j, in their order.
//
// places  u32, [planes, out_depth, out_height, out_width], and dy alike
// dx      [planes, depth, height, width], through `epilogue`
//
// Workgroups: ceil(elements / 64). Iterations: product of (1 + windows that an element may be in) over the axes.

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let sizes = vec3<u32>(p.spans[0].x, p.spans[2].x, p.spans[4].x);
    let pooled = vec3<u32>(p.spans[0].y, p.spans[2].y, p.spans[4].y);
    var rest = index / sizes.z;
    let columns = windows_with(2u, index - rest * sizes.z);
    var outer = rest / sizes.y;
    let rows = windows_with(1u, rest - outer * sizes.y);
    let plane = outer / sizes.x;
    let slices = windows_with(0u, outer - plane * sizes.x);
    let place = index - plane * sizes.x * sizes.y * sizes.z;
    var sum = 0.0;
    for (var i = slices.x; i < slices.y; i++) {
        for (var j = rows.x; j < rows.y; j++) {
            let line = ((plane * pooled.x + i) * pooled.y + j) * pooled.z;
            for (var k = columns.x; k < columns.y; k++) {
                if places[line + k] == place {
                    sum += from_a(dy[line + k]);
                }
            }
        }
    }
    dx[index] = epilogue(sum, index);
}
