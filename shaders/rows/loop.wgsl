// Folds each row of a tensor to a state and then writes results of it: softmax, cross-entropy, layer normalisation and
// their gradients.
//
//   state = close(join over j of take(start(), item(r, j)))
//   result[r, j] = epilogue(value(state, item(r, j)))        or, with `rows/results.wgsl`, RESULTS numbers a row
//
// A value F holds one element, or four: with four, either the row's neighbours (ALONG: the lanes of a state are then parts
// of one row, which `close` adds up with lanes_sum and lanes_max), or the same element of four neighbouring rows.
// All numbers of rows, lengths, strides and places are in values.
//
// Put in front of this text: `const LANES`, `const CONTIGUOUS`, lanes_sum, lanes_max, the data bindings, and
//   alias Row    what is read once a row, by begin(row)
//   alias Item   what is read of an element, by item(row, j)
//   alias State  start, take(state, item, row's, j), join, close(state, row's)
//   value(state, item, row's, j)   or   row_value(state, row's, k)
// After it: `rows/elements.wgsl` or `rows/results.wgsl`, then one of
//   `rows/single.wgsl`      one invocation a row
//   `rows/group.wgsl`       one workgroup a row; `rows/subgroup.wgsl` or `rows/tree.wgsl` before it joins the lanes' states
//   `rows/registers.wgsl`   the same, keeping the items in registers between the two passes
//   `rows/block.wgsl`       one workgroup, a subgroup, several rows, which share what is read of a column; it says what it takes

struct Params {
    rows: u32,
    length: u32,
    stride: u32,
    // Zero; keeps the compiler from folding a NaN into the text, which WGSL forbids.
    zero: u32,
    // Elements of a row, and a number of the op.
    count: u32,
    number: f32,
    // Rows that a workgroup takes, for `rows/block.wgsl`.
    block: u32,
}

@group(0) @binding(15) var<uniform> p: Params;

fn place(row: u32, j: u32) -> u32 {
    if CONTIGUOUS {
        return row * p.length + j;
    }
    let outer = row / p.stride;
    return outer * p.stride * p.length + (row - outer * p.stride) + j * p.stride;
}
