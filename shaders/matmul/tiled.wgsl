// The product of `matmul/common.wgsl` for GPUs, in blocks in workgroup memory (the loop is in `tiles/loop.wgsl`). a and b are bound in quads.
//
// Constants, besides those of `tiles/loop.wgsl`:
//   A_ALONG_DEPTH, B_ALONG_DEPTH: bool   the axis k of a (a_column = 1), of b (b_row = 1) is the contiguous one
//   A_WHOLE, B_WHOLE: bool               that axis has stride 1, its length, all other strides, the start and split_depth
//                                        are multiples of 4: quads are read as such. Otherwise element by element
// Grid: splits * batch_outer * batch_inner * ceil(rows / SIDE) * ceil(columns / SIDE) workgroups, folded freely over x and y.
// An empty part or depth = 0 gives 0.

const A_IN_ROWS: bool = A_ALONG_DEPTH;
const B_IN_ROWS: bool = B_ALONG_DEPTH;

struct Block {
    outside: bool,
    row: u32,
    column: u32,
    count: u32,
    // Number of the result's matrix, parts of a split included.
    plane: u32,
    // First elements of the operands' parts.
    a: u32,
    b: u32,
}

struct Slot {
    // The first element of four neighbouring rows of a or columns of b.
    at: vec4<u32>,
}

fn find_block(group_index: u32) -> Block {
    let place = place_of(group_index, p.rows, p.columns);
    let part = part_of(place.plane);
    var block: Block;
    block.outside = part.is_outside;
    block.row = place.row;
    block.column = place.column;
    block.count = part.count;
    block.plane = place.plane;
    block.a = part.a;
    block.b = part.b;
    return block;
}

const LANES: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

// Rows and columns past the edge read the last one; their sums are never stored.
fn a_slot(block: Block, row: u32) -> Slot {
    return Slot(vec4<u32>(block.a) + min(vec4<u32>(row) + LANES, vec4<u32>(p.rows - 1u)) * p.a_row);
}

fn b_slot(block: Block, column: u32) -> Slot {
    return Slot(vec4<u32>(block.b) + min(vec4<u32>(column) + LANES, vec4<u32>(p.columns - 1u)) * p.b_column);
}

// What follows reads b with `of_b`, a without. Where k is past the end the last one is read: the loop leaves it out.

fn element(of_b: bool, at: u32) -> f32 {
    if of_b {
        return from_b(b[at / 4u][at % 4u]);
    }
    return from_a(a[at / 4u][at % 4u]);
}

// The quad of this number.
fn whole(of_b: bool, number: u32) -> vec4<f32> {
    if of_b {
        let quad = b[number];
        return vec4<f32>(from_b(quad.x), from_b(quad.y), from_b(quad.z), from_b(quad.w));
    }
    let quad = a[number];
    return vec4<f32>(from_a(quad.x), from_a(quad.y), from_a(quad.z), from_a(quad.w));
}

fn scattered(of_b: bool, at: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(element(of_b, at.x), element(of_b, at.y), element(of_b, at.z), element(of_b, at.w));
}

// One row of a, or column of b, at k, k + 1, k + 2, k + 3; `step` elements lie between neighbours.
fn deep(of_b: bool, at: u32, k: u32, step: u32, last: u32) -> vec4<f32> {
    if select(A_WHOLE, B_WHOLE, of_b) {
        return whole(of_b, at / 4u + min(k, last) / 4u);
    }
    return scattered(of_b, vec4<u32>(at) + min(vec4<u32>(k) + LANES, vec4<u32>(last)) * step);
}

// Four rows of a, or columns of b, at k.
fn across(of_b: bool, at: vec4<u32>, k: u32, step: u32, last: u32) -> vec4<f32> {
    if select(A_WHOLE, B_WHOLE, of_b) {
        return whole(of_b, at.x / 4u + min(k, last) * (step / 4u));
    }
    return scattered(of_b, at + vec4<u32>(min(k, last) * step));
}

fn patch_of(of_b: bool, at: vec4<u32>, k: u32, step: u32, last: u32) -> mat4x4<f32> {
    if select(A_ALONG_DEPTH, B_ALONG_DEPTH, of_b) {
        return mat4x4<f32>(
            deep(of_b, at.x, k, step, last),
            deep(of_b, at.y, k, step, last),
            deep(of_b, at.z, k, step, last),
            deep(of_b, at.w, k, step, last),
        );
    }
    return mat4x4<f32>(
        across(of_b, at, k, step, last),
        across(of_b, at, k + 1u, step, last),
        across(of_b, at, k + 2u, step, last),
        across(of_b, at, k + 3u, step, last),
    );
}

fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    return patch_of(false, slot.at, k, p.a_column, max(block.count, 1u) - 1u);
}

fn b_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    return patch_of(true, slot.at, k, p.b_row, max(block.count, 1u) - 1u);
}

fn store_one(at: u32, column: u32, value: f32) {
    if column < p.columns {
        c[at] = epilogue(value, at);
    }
}

fn store(block: Block, row: u32, column: u32, values: vec4<f32>) {
    if row < p.rows {
        let at = (block.plane * p.rows + row) * p.columns + column;
        store_one(at, column, values.x);
        store_one(at + 1u, column + 1u, values.y);
        store_one(at + 2u, column + 2u, values.z);
        store_one(at + 3u, column + 3u, values.w);
    }
}
