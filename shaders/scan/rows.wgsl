// States along an axis, each combined with those before it: running sums, products, extremes. What the three kernels share.
//
// A row of `length` elements, `stride` apart, is taken in `parts` runs of `part` elements (the last may be shorter), an invocation each,
// so that no loop is longer than the square root of the longest row. Run k of row r has number k * rows + r: neighbours in a
// workgroup are neighbours in memory where rows lie side by side.
//
// Asks for: const REVERSE, true to begin at the end of each row, and of the op
//   T                      the type of a state
//   initial()              the state before the first element
//   combine(a, b)          of a, and b behind it
//   element(index, j)      the state of the element at `index`, j-th of its row
//   store(state, index)    writes results of it

// Where element j of a row is, in the order of the scan.
fn place(row: u32, j: u32) -> u32 {
    let at = select(j, p.length - 1u - j, REVERSE);
    return (row / p.stride * p.length + at) * p.stride + row % p.stride;
}
