// The place of a workgroup's SIDE x SIDE block in a stack of rows x columns matrices: blocks go down a band of 4 rows of them, then to the
// next column. And what both loops do to a patch at the end of k. For `tiles/loop.wgsl` and `matmul/cooperative.wgsl`. Constants: SIDE.

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

// A patch with 0 where k, that of its first column or (`in_rows`) of the first element of each, comes to `end`. As `at_k` it is
// called where patches go into workgroup memory, not where they are read: to change a patch is to wait for memory, and there is
// much to do meanwhile.
fn without_rest(patch_read: mat4x4<f32>, in_rows: bool, k: u32, end: u32) -> mat4x4<f32> {
    let inside = vec4<u32>(k) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(end);
    let none = vec4<f32>();
    return mat4x4<f32>(
        select(none, patch_read[0], select(vec4<bool>(inside.x), inside, in_rows)),
        select(none, patch_read[1], select(vec4<bool>(inside.y), inside, in_rows)),
        select(none, patch_read[2], select(vec4<bool>(inside.z), inside, in_rows)),
        select(none, patch_read[3], select(vec4<bool>(inside.w), inside, in_rows)),
    );
}

// Four rows of a patch at its k number `k`.
fn at_k(patch_read: mat4x4<f32>, in_rows: bool, k: u32) -> vec4<f32> {
    if in_rows {
        return vec4<f32>(patch_read[0][k], patch_read[1][k], patch_read[2][k], patch_read[3][k]);
    }
    return patch_read[k];
}
