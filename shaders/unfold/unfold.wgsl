// The elements of windows, side by side: an element of the result counts planes, and positions along depth, height and width of
// the padded volume, with each of its coordinates.
//
// x       [planes, depth, height, width]
// result  up to eight axes, see Order in src/ops/unfold/mod.rs; through `epilogue`
//
// Workgroups: ceil(elements / 64). Iterations: 8.

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    var rest = index;
    var counted = array<u32, 4>();
    for (var k = 0u; k < p.rank; k++) {
        let axis = p.axes[k];
        let outer = rest / axis.x;
        counted[axis.y] += (rest - outer * axis.x) * axis.z;
        rest = outer;
    }
    // What lies before an axis wraps to huge numbers and fails the one test against the size.
    let row = vec3<u32>(counted[0], counted[1], counted[2]) - p.sizes[1].xyz;
    let inside = all(row < p.sizes[0].xyz);
    let place = ((counted[3] * p.sizes[0].x + row.x) * p.sizes[0].y + row.y) * p.sizes[0].z + row.z;
    let value = from_a(x[select(0u, place, inside)]);
    result[index] = epilogue(select(0.0, value, inside), index);
}
