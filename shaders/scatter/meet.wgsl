// Each element of an index brings something to the cell that it names, whichever comes first: what a cell is in the end does not
// depend on that, for it is a largest number or a sum of whole numbers. An index outside of its axis brings nothing.
//
// index  [count], u32, or i32 read as such: negative ones are out of range, too
// cells  [elements], atomic (written)
//
// Axes are innermost first: (length in the index, stride among the cells, or 0 for its own axis).
// Asks for: `meet(at, i)`, which brings number i to a cell. Workgroups: ceil(count / 64). Iterations: 8.

fn work(i: u32) {
    if i >= p.count {
        return;
    }
    let place = index[i];
    if place >= p.length {
        return;
    }
    var rest = i;
    var at = place * p.stride;
    for (var k = 0u; k < 8u && rest > 0u; k++) {
        let axis = p.axes[k];
        at += rest % axis.x * axis.y;
        rest /= axis.x;
    }
    meet(at, i);
}
