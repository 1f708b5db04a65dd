// Filters of 3 x 3 as the products of `conv2d/winograd_images.wgsl` want them (Winograd 1980; Lavin and Gray 2016, F(2 x 2, 3 x 3)):
//   u[t, r, d] = (G w G^T)[t], t = 4 * row + column, G = (1, 0, 0; 1/2, 1/2, 1/2; 1/2, -1/2, 1/2; 0, 0, 1)
// with w the filter from channel d of what is read to channel r of the result. An invocation a filter.
//
// w  [out_channels, in_channels, 3, 3], u [16, rows, depth]
//
// FLIPPED (constant): the filters are turned round, and r is an input channel, d an output channel: the gradient with respect to
// images. Workgroups: ceil(rows * depth / 64).

fn weight(at: u32, tap: u32) -> f32 {
    return from_b(w[at + select(tap, 8u - tap, FLIPPED)]);
}

// A row by G^T.
fn widened(row: vec3<f32>) -> vec4<f32> {
    let outer = row.x + row.z;
    return vec4<f32>(row.x, 0.5 * (outer + row.y), 0.5 * (outer - row.y), row.z);
}

fn put(at: u32, line: u32, values: vec4<f32>) {
    let step = p.rows * p.depth;
    let first = 4u * line * step + at;
    u[first] = values.x;
    u[first + step] = values.y;
    u[first + 2u * step] = values.z;
    u[first + 3u * step] = values.w;
}

fn work(i: u32) {
    if i >= p.rows * p.depth {
        return;
    }
    let row = i / p.depth;
    let column = i - row * p.depth;
    let at = 9u * select(row * p.depth + column, column * p.rows + row, FLIPPED);
    let top = vec3<f32>(weight(at, 0u), weight(at, 1u), weight(at, 2u));
    let middle = vec3<f32>(weight(at, 3u), weight(at, 4u), weight(at, 5u));
    let bottom = vec3<f32>(weight(at, 6u), weight(at, 7u), weight(at, 8u));
    put(i, 0u, widened(top));
    put(i, 1u, widened(0.5 * (top + middle + bottom)));
    put(i, 2u, widened(0.5 * (top - middle + bottom)));
    put(i, 3u, widened(bottom));
}
