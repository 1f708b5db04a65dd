// Folds each row of a tensor to a state and then writes results of it: softmax, cross-entropy, layer normalisation and
// their gradients.
//
//   state = close(wide(join over the lanes of narrow(take over their j from start() on)))
//   result[r, j] = epilogue(value(state, item(r, j)))        or, with `rows/results.wgsl`, RESULTS numbers a row
//
// A value F holds one element, or four: with four, either the row's neighbours (the lanes of a state are then parts of one
// row, which `close` adds up with lanes_sum and lanes_max), or the same element of four neighbouring rows.
// All numbers of rows, lengths, strides and places are in values.
//
// Asks for: `rows/one.wgsl` or `rows/four.wgsl`, `rows/lanes_joined.wgsl` or `rows/lanes_apart.wgsl`, `const CONTIGUOUS`
// (true: the elements of a row are neighbours), the sizes of `src/ops/rows.rs`, and of the op
//   alias Row    what is read once a row, by begin(row)
//   alias Item   what is read of an element, by item(row, j)
//   alias State  start, take(state, item, row's, j), join of what `narrow` leaves of two, close(state, row's)
//                narrow(state), wide(joined): what lanes exchange, a Joined; `rows/whole.wgsl` has those that change nothing
//   value(state, item, row's, j)   or   row_value(state, row's, k)
// and `rows/elements.wgsl` or `rows/results.wgsl`, and one of
//   `rows/single.wgsl`      one invocation a row
//   `rows/group.wgsl`       one workgroup a row; `rows/subgroup.wgsl` or `rows/tree.wgsl` joins the lanes' states
//   `rows/registers.wgsl`   the same, keeping the items in registers between the two passes
//   `rows/block.wgsl`       one workgroup, a subgroup, several rows, which share what is read of a column; it says what it asks for

fn place(row: u32, j: u32) -> u32 {
    if CONTIGUOUS {
        return row * p.length + j;
    }
    let outer = row / p.stride;
    return outer * p.stride * p.length + (row - outer * p.stride) + j * p.stride;
}
