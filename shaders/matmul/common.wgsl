// The sizes of a matrix product, for all its kernels: strides and starts count elements.

struct Params {
    rows: u32,
    columns: u32,
    depth: u32,
    batch_outer: u32,
    batch_inner: u32,
    splits: u32,
    split_depth: u32,
    a_batch_outer: u32,
    a_batch_inner: u32,
    a_row: u32,
    a_column: u32,
    b_batch_outer: u32,
    b_batch_inner: u32,
    b_row: u32,
    b_column: u32,
    a_start: u32,
    b_start: u32,
}

@group(0) @binding(15) var<uniform> p: Params;
