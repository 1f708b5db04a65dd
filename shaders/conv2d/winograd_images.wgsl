// Tiles of 4 x 4 of images, two apart, for a convolution by 3 x 3 filters as 16 products (Winograd 1980; Lavin and Gray 2016):
//   v[t, d, q] = (B^T x B)[t], t = 4 * row + column, B^T = (1, 0, -1, 0; 0, 1, 1, 0; 0, -1, 1, 0; 0, 1, 0, -1)
// with x the tile q = (image, line of tiles, tile) of channel d. Then m[t] = u[t] v[t], and `conv2d/winograd_result.wgsl` makes
// 2 x 2 results of each tile: 16 multiplications for 36. An invocation a tile; what lies outside an image is 0.
//
// x  [batch, depth, height, width], v [16, depth, tiles], tiles = batch * tiles_down * tiles_across
//
// Workgroups: ceil(depth * tiles / 64).

fn pixel(base: u32, row: u32, column: u32) -> f32 {
    // Negative numbers wrap and fail the one test against the size.
    let inside = row < p.height && column < p.width;
    return select(0.0, from_a(x[select(0u, base + row * p.width + column, inside)]), inside);
}

fn line(base: u32, row: u32, column: u32) -> vec4<f32> {
    return vec4<f32>(
        pixel(base, row, column),
        pixel(base, row, column + 1u),
        pixel(base, row, column + 2u),
        pixel(base, row, column + 3u),
    );
}

fn put(at: u32, number: u32, values: vec4<f32>) {
    let step = p.depth * p.tiles;
    let first = 4u * number * step + at;
    // The same along the other axis.
    v[first] = values.x - values.z;
    v[first + step] = values.y + values.z;
    v[first + 2u * step] = values.z - values.y;
    v[first + 3u * step] = values.y - values.w;
}

fn work(i: u32) {
    if i >= p.depth * p.tiles {
        return;
    }
    let channel = i / p.tiles;
    let tile = i - channel * p.tiles;
    let down = tile / p.tiles_across;
    let image = down / p.tiles_down;
    let row = 2u * (down - image * p.tiles_down) - p.padding_height;
    let column = 2u * (tile - down * p.tiles_across) - p.padding_width;
    let base = (image * p.depth + channel) * (p.height * p.width);
    let first = line(base, row, column);
    let second = line(base, row + 1u, column);
    let third = line(base, row + 2u, column);
    let last = line(base, row + 3u, column);
    put(i, 0u, first - third);
    put(i, 1u, second + third);
    put(i, 2u, third - second);
    put(i, 3u, second - last);
}
