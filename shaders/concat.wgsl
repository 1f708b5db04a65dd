// Some inputs one after another along an axis, written to their part of the result:
//   result[row * total + start + r] = load(row, r)
// where a row is what one element of the axes before is followed by: `total` elements in the result, of which `span`
// from `start` on come from these inputs.
//
// Elements of the inputs come in units of WIDTH, one or four. Put in front of this text: `const WIDTH: u32`, the bindings
// (inputs, in units, then `result`, in elements), `load` and `store`. Workgroups: ceil(units / 64). Iterations: 0.

fn work(i: u32) {
    if i >= p.units {
        return;
    }
    let row = i / p.span;
    let r = i - row * p.span;
    store(row * p.total + p.start + r * WIDTH, load(row, r));
}
