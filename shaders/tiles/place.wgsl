// The place of a workgroup's SIDE x SIDE block in a stack of rows x columns matrices: blocks go down a band of 4 rows of them, then to the
// next column. For `tiles/loop.wgsl` and `matmul/cooperative.wgsl`. Constants: SIDE.

struct Place {
    plane: u32,
    row: u32,
    column: u32,
}

// Bands of 4 rows of blocks share their part of b in the cache.
fn place_of(group_index: u32, rows: u32, columns: u32) -> Place {
    let column_tiles = (columns + SIDE - 1u) / SIDE;
    let row_tiles = (rows + SIDE - 1u) / SIDE;
    let plane = group_index / (row_tiles * column_tiles);
    let tile = group_index - plane * (row_tiles * column_tiles);
    let band = tile / (4u * column_tiles);
    let band_rows = min(4u, row_tiles - band * 4u);
    let in_band = tile - band * 4u * column_tiles;
    return Place(plane, (band * 4u + in_band % band_rows) * SIDE, in_band / band_rows * SIDE);
}
