// What the kernels of a convolution as products of blocks share: a block's task, division by known numbers, and four columns or
// rows at a time. Beside it: the text of one of them, `tiles/place.wgsl` and `tiles/loop.wgsl`. `from_a` and `from_b` give an element of
// the two operands as f32 (`ops/product.rs`).
//
// Constants, besides those of `tiles/loop.wgsl`:
//   KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH, DILATION_HEIGHT, DILATION_WIDTH   of the convolution
//   WHOLE: bool        the quads of operand a are whole: its rows of k are multiples of 4 elements long
//   SMALL: bool        no number that is divided passes 2^24: its quotient is formed with a reciprocal
//
// The pass's text has what `tiles/loop.wgsl` asks for and is not here, and
//   Phase                                   what else it knows of a block
//   fn rows_of_product() -> u32
//   fn b_start(block: Block, k: u32) -> Walk, fn b_next(block: Block, walk: Walk) -> Walk    k and k + 1 for b
//   fn b_quad(block: Block, slot: Slot, walk: Walk) -> vec4<f32>    four columns of b there
//   fn store_one(block: Block, row: u32, column: u32, value: f32)    column past the edge or not

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

struct Block {
    outside: bool,
    row: u32,
    column: u32,
    count: u32,
    begin: u32,
    part: u32,
    // First channels of the group.
    in_channel: u32,
    out_channel: u32,
    phase: Phase,
}

// The block at a place, of a stack with `phases` products a group, without its part of k.
fn block_at(place: Place, phases: u32) -> Block {
    let part = place.plane / (p.groups * phases);
    let weight_group = (place.plane - part * (p.groups * phases)) / phases;
    var block: Block;
    block.outside = part >= p.splits;
    block.row = place.row;
    block.column = place.column;
    block.part = part;
    block.in_channel = weight_group * (p.in_channels / p.groups);
    block.out_channel = weight_group * (p.out_channels / p.groups);
    return block;
}

// With its part of a k that is `depth` long.
fn cut(uncut: Block, depth: u32) -> Block {
    var block = uncut;
    block.begin = min(block.part * p.split_depth, depth);
    block.count = min(p.split_depth, depth - block.begin);
    return block;
}

// A k taken apart: outer * (middle length) * (inner length) + middle * (inner length) + inner, and where it leads in a buffer.
struct Walk {
    outer: u32,
    middle: u32,
    inner: u32,
    at: u32,
}

// That of k; `reciprocal` is of `inner_length`, `area_reciprocal` of `area`, the product of both lengths; strides are those in the
// buffer of outer, middle, inner.
fn walk_of(k: u32, area: u32, area_reciprocal: f32, inner_length: u32, reciprocal: f32, strides: vec3<u32>) -> Walk {
    let outer = divide(k, area, area_reciprocal);
    let rest = k - outer * area;
    let middle = divide(rest, inner_length, reciprocal);
    let inner = rest - middle * inner_length;
    return Walk(outer, middle, inner, outer * strides.x + middle * strides.y + inner * strides.z);
}

// The same for k + 1: additions alone.
fn walk_on(walk: Walk, middle_length: u32, inner_length: u32, strides: vec3<u32>) -> Walk {
    let line_ends = walk.inner + 1u == inner_length;
    let inner = select(walk.inner + 1u, 0u, line_ends);
    let middle = walk.middle + select(0u, 1u, line_ends);
    let on = walk.at + select(strides.z, strides.y - (inner_length - 1u) * strides.z, line_ends);
    let area_ends = middle == middle_length;
    return Walk(
        walk.outer + select(0u, 1u, area_ends),
        select(middle, 0u, area_ends),
        inner,
        on + select(0u, strides.x - middle_length * strides.y, area_ends),
    );
}

fn b_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    let first = b_start(block, k);
    let second = b_next(block, first);
    let third = b_next(block, second);
    let last = b_next(block, third);
    return mat4x4<f32>(
        b_quad(block, slot, first),
        b_quad(block, slot, second),
        b_quad(block, slot, third),
        b_quad(block, slot, last),
    );
}

fn store(block: Block, row: u32, column: u32, values: vec4<f32>) {
    if row < rows_of_product() {
        store_one(block, row, column, values.x);
        store_one(block, row, column + 1u, values.y);
        store_one(block, row, column + 2u, values.z);
        store_one(block, row, column + 3u, values.w);
    }
}
