// Running sums along an axis, whose elements lie `stride` apart: what the three kernels share.
//
// A row of `length` elements is taken in `parts` runs of `part` elements (the last may be shorter), an invocation each, so that
// no loop is longer than the square root of the longest row. Run k of row r has number k * rows + r: neighbours in a workgroup
// are neighbours in memory where rows lie side by side.
//
// Put in front: alias T, the type of a sum; const REVERSE, true to begin at the end of each row.
// Elements are read by `prologue(index)`.

struct Params {
    rows: u32,
    length: u32,
    stride: u32,
    part: u32,
    parts: u32,
}

@group(0) @binding(15) var<uniform> p: Params;

// Where element j of a row is, in the order of the sum.
fn place(row: u32, j: u32) -> u32 {
    let at = select(j, p.length - 1u - j, REVERSE);
    return (row / p.stride * p.length + at) * p.stride + row % p.stride;
}
