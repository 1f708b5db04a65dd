// What the kernels of a convolution as products of blocks share: sizes, division by known numbers, the filters' or
// gradients' quads along k. The text of one of them follows, then tiles.wgsl.
//
// Constants (host prepends), besides those of tiles.wgsl:
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, DILATION_HEIGHT, DILATION_WIDTH   of the convolution
//   WHOLE: bool        the quads of operand a are whole: its rows of k are multiples of 4 elements long
//   SMALL: bool        no number that is divided passes 2^24: its quotient is formed with a reciprocal

struct Params {
    batch: u32,
    in_channels: u32,
    in_height: u32,
    in_width: u32,
    out_channels: u32,
    out_height: u32,
    out_width: u32,
    groups: u32,
    padding_height: u32,
    padding_width: u32,
    splits: u32,
    split_depth: u32,
    // Reciprocals of the sizes of what a column of the product (for dw: a k) is taken apart into.
    area_reciprocal: f32,
    width_reciprocal: f32,
}

@group(0) @binding(15) var<uniform> p: Params;

const TAPS: u32 = KERNEL_HEIGHT * KERNEL_WIDTH;
const LANES: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

struct Slot {
    // For four rows or columns: where in the buffer, and where in the image.
    at: vec4<u32>,
    row: vec4<u32>,
    column: vec4<u32>,
}

// Floor of n / d. The estimate is off by one at most: two roundings of 2^-24 of a quotient below 2^24.
fn divide(n: u32, d: u32, reciprocal: f32) -> u32 {
    if !SMALL {
        return n / d;
    }
    let estimate = u32(f32(n) * reciprocal);
    let rest = bitcast<i32>(n - estimate * d);
    return estimate + select(0u, 1u, rest >= bitcast<i32>(d)) - select(0u, 1u, rest < 0);
}

fn divide_quad(n: vec4<u32>, d: u32, reciprocal: f32) -> vec4<u32> {
    return vec4<u32>(
        divide(n.x, d, reciprocal),
        divide(n.y, d, reciprocal),
        divide(n.z, d, reciprocal),
        divide(n.w, d, reciprocal),
    );
}
