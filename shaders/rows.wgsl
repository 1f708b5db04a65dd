// Folds each row to a state and then writes results of it. Shared by softmax, cross-entropy and their gradients.
//
// Element j of row r lies at row_start(r) + j * stride: rows along any axis, `stride` being the elements after it.
//   state = close(join over j of take(start(), r, j)),   result = epilogue(value(state, r, j))
// with one result for each element, or one for each row where `const PER_ROW: bool` is true.
//
// Put in front of this text: alias State, start, take, join, close, value and the data bindings.
// This text is shared: `rows_single.wgsl` (one invocation a row) or `rows_group.wgsl` (one workgroup a row) follows it.

struct Params {
    rows: u32,
    length: u32,
    stride: u32,
    // Zero; keeps the compiler from folding a NaN into the text, which WGSL forbids.
    zero: u32,
}

@group(0) @binding(15) var<uniform> p: Params;

fn row_start(row: u32) -> u32 {
    let outer = row / p.stride;
    return outer * p.stride * p.length + (row - outer * p.stride);
}

fn write(state: State, row: u32, j: u32) {
    let at = select(row_start(row) + j * p.stride, row, PER_ROW);
    result[at] = epilogue(value(state, row, j), at);
}
