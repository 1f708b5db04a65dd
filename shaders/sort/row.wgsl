// Where the first element of a row is.

fn row_start(row: u32) -> u32 {
    return row / p.stride * p.stride * p.length + row % p.stride;
}
