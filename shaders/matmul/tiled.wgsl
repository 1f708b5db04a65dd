// Matrix product for GPUs, blocks in workgroup memory (the loop is in tiles.wgsl, which follows this text):
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// Every axis of a and b is reached through a stride in elements, so a transposed operand needs no copy and a stride of 0
// broadcasts a batch axis. Products are added in ascending k.
//
// binding 0  a in quads, any layout given by strides; its first element is a_start
// binding 1  b, alike
// binding 2  c [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums:
//            bind the identity epilogue and add the parts in ascending order with a second kernel.
//
// Constants (host prepends), besides those of tiles.wgsl:
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   A_ALONG_DEPTH, B_ALONG_DEPTH: bool   the axis k of a (a_column = 1), of b (b_row = 1) is the contiguous one
//   A_WHOLE, B_WHOLE: bool               that axis has stride 1, its length, all other strides, the start and split_depth
//                                        are multiples of 4: quads are read as such. Otherwise element by element
// Grid: splits * batch_outer * batch_inner * ceil(rows / SIDE) * ceil(columns / SIDE) workgroups, folded freely over x and y.
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)); an empty part or depth = 0 gives 0.
// Sizes: `matmul/common.wgsl`, which goes in front.

@group(0) @binding(0) var<storage, read> a: array<vec4<A_TYPE>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<B_TYPE>>;
@group(0) @binding(2) var<storage, read_write> c: array<OUT>;

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
    let batches = p.batch_outer * p.batch_inner;
    let split = place.plane / batches;
    let batch = place.plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    var block: Block;
    block.outside = split >= p.splits;
    block.row = place.row;
    block.column = place.column;
    block.count = min(p.split_depth, p.depth - begin);
    block.plane = place.plane;
    block.a = p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin * p.a_column;
    block.b = p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row;
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

fn a_at(at: u32) -> f32 {
    return from_a(a[at / 4u][at % 4u]);
}

fn a_whole(at: u32, inside: bool) -> vec4<f32> {
    let quad = a[select(0u, at, inside) / 4u];
    return select(vec4<f32>(), vec4<f32>(from_a(quad.x), from_a(quad.y), from_a(quad.z), from_a(quad.w)), inside);
}

fn a_each(at: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    let i = select(vec4<u32>(), at, inside);
    return select(vec4<f32>(), vec4<f32>(a_at(i.x), a_at(i.y), a_at(i.z), a_at(i.w)), inside);
}

// One row at k, k + 1, k + 2, k + 3.
fn a_deep(at: u32, k: u32, count: u32) -> vec4<f32> {
    if A_WHOLE {
        return a_whole(at + k, k < count);
    }
    let step = vec4<u32>(k) + LANES;
    return a_each(vec4<u32>(at) + step * p.a_column, step < vec4<u32>(count));
}

// Four rows at k.
fn a_across(at: vec4<u32>, k: u32, count: u32) -> vec4<f32> {
    if A_WHOLE {
        return a_whole(at.x + k * p.a_column, k < count);
    }
    return a_each(at + vec4<u32>(k * p.a_column), vec4<bool>(k < count));
}

fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    let n = block.count;
    let at = slot.at;
    if A_ALONG_DEPTH {
        return transpose(mat4x4<f32>(a_deep(at.x, k, n), a_deep(at.y, k, n), a_deep(at.z, k, n), a_deep(at.w, k, n)));
    }
    return mat4x4<f32>(a_across(at, k, n), a_across(at, k + 1u, n), a_across(at, k + 2u, n), a_across(at, k + 3u, n));
}

fn b_at(at: u32) -> f32 {
    return from_b(b[at / 4u][at % 4u]);
}

fn b_whole(at: u32, inside: bool) -> vec4<f32> {
    let quad = b[select(0u, at, inside) / 4u];
    return select(vec4<f32>(), vec4<f32>(from_b(quad.x), from_b(quad.y), from_b(quad.z), from_b(quad.w)), inside);
}

fn b_each(at: vec4<u32>, inside: vec4<bool>) -> vec4<f32> {
    let i = select(vec4<u32>(), at, inside);
    return select(vec4<f32>(), vec4<f32>(b_at(i.x), b_at(i.y), b_at(i.z), b_at(i.w)), inside);
}

fn b_deep(at: u32, k: u32, count: u32) -> vec4<f32> {
    if B_WHOLE {
        return b_whole(at + k, k < count);
    }
    let step = vec4<u32>(k) + LANES;
    return b_each(vec4<u32>(at) + step * p.b_row, step < vec4<u32>(count));
}

fn b_across(at: vec4<u32>, k: u32, count: u32) -> vec4<f32> {
    if B_WHOLE {
        return b_whole(at.x + k * p.b_row, k < count);
    }
    return b_each(at + vec4<u32>(k * p.b_row), vec4<bool>(k < count));
}

fn b_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    let n = block.count;
    let at = slot.at;
    if B_ALONG_DEPTH {
        return transpose(mat4x4<f32>(b_deep(at.x, k, n), b_deep(at.y, k, n), b_deep(at.z, k, n), b_deep(at.w, k, n)));
    }
    return mat4x4<f32>(b_across(at, k, n), b_across(at, k + 1u, n), b_across(at, k + 2u, n), b_across(at, k + 3u, n));
}

fn store(block: Block, row: u32, column: u32, values: vec4<f32>) {
    if row >= p.rows {
        return;
    }
    let at = (block.plane * p.rows + row) * p.columns + column;
    if column < p.columns {
        c[at] = epilogue(values.x, at);
    }
    if column + 1u < p.columns {
        c[at + 1u] = epilogue(values.y, at + 1u);
    }
    if column + 2u < p.columns {
        c[at + 2u] = epilogue(values.z, at + 2u);
    }
    if column + 3u < p.columns {
        c[at + 3u] = epilogue(values.w, at + 3u);
    }
}
