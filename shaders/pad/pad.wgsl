// Puts an input into a larger result: result[i] = input[i - before] where that is inside, else `value`.
//
// Asks for: `alias V`, the type of an element; `store(at, value)`. What `moved()` gives is added to `before` of axis `dynamic`. Axes are innermost first: (length, input length, input stride,
// before).
// Workgroups: ceil(elements / 64). Iterations: 8.

fn work(i: u32) {
    if i >= p.elements {
        return;
    }
    var rest = i;
    var at = 0u;
    var inside = true;
    for (var k = 0u; k < 8u; k++) {
        let axis = p.axes[k];
        var before = axis.w;
        if k == p.dynamic {
            before += moved();
        }
        // Below `before` the difference wraps around and is outside as well.
        let index = rest % axis.x - before;
        rest /= axis.x;
        inside = inside && index < axis.y;
        at += index * axis.z;
    }
    var value = bitcast<V>(p.value);
    if inside {
        value = input[at];
    }
    store(i, value);
}
