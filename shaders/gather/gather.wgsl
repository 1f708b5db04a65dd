// Elements picked along one axis: result[i] = input[i with the axis replaced by index[i]], for a whole index tensor or a
// vector. An index outside of the axis gives NaN (0 for integers) and reads nothing.
//
// input, result  of V, in row-major order
// index          u32, or i32 read as such: negative ones are out of range, too
//
// Asks for: `alias V`; `fn missing() -> V`; `store(at, value)`. Workgroups: ceil(elements / 64). Iterations: 8.

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
