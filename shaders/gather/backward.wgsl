// Gradient of a gather: each element sums, in order, the gradients of the results that picked it.
//
// result[i] = sum over r, where index[.., r, ..] is i's place on the axis, of grad[.., r, ..]. No atomics: the same bits in every
// run. For indices that are short along the axis: each element reads all of them.
//
// index         u32, in row-major order
// grad, result  f32, in row-major order
//
// Asks for: `store(at, value)`. Workgroups: ceil(elements / 64). Iterations: 8 + count.

fn work(i: u32) {
    if i >= p.elements {
        return;
    }
    var rest = i;
    var wanted = 0u;
    var place = 0u;
    var at = 0u;
    var inside = true;
    for (var k = 0u; k < 8u; k++) {
        let axis = p.axes[k];
        let coordinate = rest % axis.x;
        rest /= axis.x;
        if k == p.axis {
            wanted = coordinate;
        } else {
            inside = inside && coordinate < axis.y;
            place += coordinate * axis.z;
            at += coordinate * axis.w;
        }
    }
    var total = 0.0;
    // An index tensor may be smaller than the input on the other axes: nothing picked from beyond it.
    if inside {
        for (var r = 0u; r < p.count; r++) {
            if index[place + r * p.index_stride] == wanted {
                total += grad[at + r * p.grad_stride];
            }
        }
    }
    store(i, total);
}
