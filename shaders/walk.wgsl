// Elements of an input along every axis at once by a rule: number i of an axis is element edge(start + step * i) of the input's.
//
// input, result  of V
//
// Axes are innermost first: `axes` has (length, start, step, edge), where start and step are i32, and `sources` (input length, input
// stride, unused, unused). Asks for: `alias V`; `store(at, value)`. Workgroups: ceil(elements / 64). Iterations: 8.

const REFLECT: u32 = 1u;
const CIRCULAR: u32 = 3u;

// Where on an axis of n elements number t, which may be beyond its ends, is found.
fn inside(t: i32, n: i32, edge: u32) -> i32 {
    if edge == REFLECT {
        return n - 1 - abs(n - 1 - abs(t));
    }
    if edge == CIRCULAR {
        // GL leaves the remainder of negative numbers open.
        let rest = i32(u32(abs(t)) % u32(n));
        return select(rest, select(n - rest, 0, rest == 0), t < 0);
    }
    return clamp(t, 0, n - 1);
}

fn work(i: u32) {
    if i >= p.elements {
        return;
    }
    var rest = i;
    var at = 0u;
    for (var k = 0u; k < 8u; k++) {
        let axis = p.axes[k];
        let place = bitcast<i32>(axis.y) + bitcast<i32>(axis.z) * i32(rest % axis.x);
        rest /= axis.x;
        at += u32(inside(place, i32(p.sources[k].x), axis.w)) * p.sources[k].y;
    }
    store(i, input[at]);
}
