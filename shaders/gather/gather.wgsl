// Elements picked along one axis: result[i] = input[i with the axis replaced by index[i]], for a whole index tensor or a
// vector. An index outside of the axis gives NaN (0 for integers) and reads nothing.
//
// Put in front of this text: `alias V` and `fn missing() -> V`. Bindings: 0 input (read), 1 index (read; negative i32 are
// out of range as u32 too), 2 result (written). Axes are innermost first: (length, input stride, index stride, unused),
// the input stride of the axis itself being 0. Workgroups: ceil(elements / 64). Iterations: 8.

struct Params {
    elements: u32,
    length: u32,
    stride: u32,
    // Zero; keeps the compiler from folding a NaN into the text, which WGSL forbids.
    zero: u32,
    axes: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<storage, read> input: array<V>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<V>;
@group(0) @binding(15) var<uniform> p: Params;

fn work(i: u32) {
    if i >= p.elements {
        return;
    }
    var rest = i;
    var at = 0u;
    var place = 0u;
    for (var k = 0u; k < 8u && rest > 0u; k++) {
        let axis = p.axes[k];
        let coordinate = rest % axis.x;
        rest /= axis.x;
        at += coordinate * axis.y;
        place += coordinate * axis.z;
    }
    let picked = index[place];
    var value = missing();
    if picked < p.length {
        value = input[at + picked * p.stride];
    }
    store(i, value);
}
