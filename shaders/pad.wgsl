// Puts an input into a larger result: result[i] = input[i - before] where that is inside, else `value`.
//
// Put in front of this text: the binding of `result` (1, or 2 after a start), and `moved()`, which is added to `before`
// of axis `dynamic`. Binding 0: input (read). Axes are innermost first: (length, input length, input stride, before).
// Workgroups: ceil(elements / 64). Iterations: 8.

struct Params {
    elements: u32,
    value: u32,
    dynamic: u32,
    unused: u32,
    axes: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<storage, read> input: array<f32>;
@group(0) @binding(15) var<uniform> p: Params;

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
    var value = bitcast<f32>(p.value);
    if inside {
        value = input[at];
    }
    result[i] = epilogue(value, i);
}
