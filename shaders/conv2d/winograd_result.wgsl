// Results of a convolution by 3 x 3 filters from its 16 products (`conv2d/winograd_images.wgsl`):
//   y[image, r, 2 i .. 2 i + 1, 2 j .. 2 j + 1] = epilogue(A^T m A), A^T = (1, 1, 1, 0; 0, 1, -1, -1)
// An invocation a tile of 2 x 2, of which those past the edge are left out. The parts of split products are added in order.
//
// m  [splits, 16, rows, tiles], y [batch, rows, out_height, out_width]
//
// Workgroups: ceil(rows * tiles / 64). Iterations: splits + 8.

// Row `number` of m, all parts.
fn products(at: u32, number: u32) -> vec4<f32> {
    let step = p.rows * p.tiles;
    var sum = vec4<f32>();
    for (var part = 0u; part < p.splits; part++) {
        let first = (16u * part + 4u * number) * step + at;
        sum += vec4<f32>(m[first], m[first + step], m[first + 2u * step], m[first + 3u * step]);
    }
    return sum;
}

fn put(base: u32, row: u32, column: u32, values: vec4<f32>) {
    if row >= p.out_height {
        return;
    }
    let index = base + row * p.out_width + column;
    y[index] = epilogue(values.x + values.y + values.z, index);
    if column + 1u < p.out_width {
        y[index + 1u] = epilogue(values.y - values.z - values.w, index + 1u);
    }
}

fn work(i: u32) {
    if i >= p.rows * p.tiles {
        return;
    }
    let channel = i / p.tiles;
    let tile = i - channel * p.tiles;
    let down = tile / p.tiles_across;
    let image = down / p.tiles_down;
    let row = 2u * (down - image * p.tiles_down);
    let column = 2u * (tile - down * p.tiles_across);
    let base = (image * p.rows + channel) * (p.out_height * p.out_width);
    let first = products(i, 0u);
    let second = products(i, 1u);
    let third = products(i, 2u);
    let last = products(i, 3u);
    put(base, row, column, first + second + third);
    put(base, row + 1u, column, second - third - last);
}
