// Running sums along an axis, whose elements lie `stride` apart: what the three kernels share.
//
// A row of `length` elements is taken in `parts` runs of `part` elements (the last may be shorter), an invocation each, so that
// no loop is longer than the square root of the longest row. Run k of row r has number k * rows + r: neighbours in a workgroup
// are neighbours in memory where rows lie side by side.
//
// Asks for: alias T, the type of a sum; const REVERSE, true to begin at the end of each row; `prologue(index)`, which reads an element.

// Where element j of a row is, in the order of the sum.
fn place(row: u32, j: u32) -> u32 {
    let at = select(j, p.length - 1u - j, REVERSE);
    return (row / p.stride * p.length + at) * p.stride + row % p.stride;
}
