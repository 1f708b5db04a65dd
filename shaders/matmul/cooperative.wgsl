// Matrix product in half precision on matrix units: f16 operands, sums in f32. Patches of the
// operands and the store are those of `matmul/tiled.wgsl`, and this loop takes the place of the one in `tiles/loop.wgsl`:
//   c[i, j] = epilogue(sum over k < count of f16(a[i, k]) * f16(b[k, j])), added in ascending k, 16 or 8 at a time
//
// A workgroup is 8 subgroups of 32 lanes; each forms 4 x 2 matrices of MATRIX x MATRIX elements, all together a block with
// SIDE = 8 * MATRIX. A slab of 32 along k lies in workgroup memory as f16, k by k, padded by 8 elements (16 bytes: the alignment
// that loads of matrices ask for); the next slab's patches are read into registers while this one is multiplied. Elements of a
// matrix cannot be reached one by one, so results go through workgroup memory to the epilogue.
//
// Constants, besides those of `matmul/tiled.wgsl`:
//   MATRIX = 16 or 8                 side of the matrices that the adapter lists
//   Left, Right, Sum                 their types: f16 as A, f16 as B, f32 as C
// Workgroup: (256, 1, 1), which must be 8 subgroups. Memory: 25,604 bytes at 16 x 16, 11,268 at 8 x 8.
// Loops: ceil(count / 32) * 9 + 2 * MATRIX iterations an invocation at most.

const SLAB: u32 = 32u;
const PITCH: u32 = SIDE + 8u;
const QUADS: u32 = SIDE / 4u;
const PATCHES: u32 = QUADS * SLAB / 4u;
const THREADS: u32 = 256u;
const LANES_OF_SUBGROUP: u32 = 32u;

var<workgroup> a_tile: array<f16, SLAB * PITCH>;
var<workgroup> b_tile: array<f16, SLAB * PITCH>;
var<workgroup> block_count: u32;
var<workgroup> results: array<f32, THREADS / LANES_OF_SUBGROUP * MATRIX * MATRIX>;

fn keep_a(at: u32, quad: vec4<f32>) {
    a_tile[at] = f16(quad.x);
    a_tile[at + 1u] = f16(quad.y);
    a_tile[at + 2u] = f16(quad.z);
    a_tile[at + 3u] = f16(quad.w);
}

fn keep_b(at: u32, quad: vec4<f32>) {
    b_tile[at] = f16(quad.x);
    b_tile[at + 1u] = f16(quad.y);
    b_tile[at + 2u] = f16(quad.z);
    b_tile[at + 3u] = f16(quad.w);
}

// Stores one matrix of a subgroup; all subgroups call it together.
fn store_matrix(block: Block, sum: Sum, subgroup: u32, lane: u32, row: u32, column: u32) {
    let value = sum;
    let first = subgroup * MATRIX * MATRIX;
    let pitch = MATRIX;
    coopStoreT(value, &results[first], pitch);
    workgroupBarrier();
    for (var quad = lane; quad < MATRIX * MATRIX / 4u; quad += LANES_OF_SUBGROUP) {
        let i = 4u * quad / MATRIX;
        let j = 4u * quad % MATRIX;
        let at = first + 4u * quad;
        store(block, row + i, column + j, vec4<f32>(results[at], results[at + 1u], results[at + 2u], results[at + 3u]));
    }
    workgroupBarrier();
}

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let block = find_block(group.x + group.y * group_count.x);
    // Matrices are loaded and multiplied by whole workgroups: none of its invocations may leave, and all know that they loop
    // alike. A workgroup past the last block has nothing to add and stores past the last row, that is nothing.
    if local == 0u {
        block_count = select(block.count, 0u, block.outside);
    }
    let count = workgroupUniformLoad(&block_count);
    // Invocations past the last patch (8 x 8 matrices) bring nothing.
    let brings = local < PATCHES;
    let a_quad = select(local % QUADS, local / 8u, A_ALONG_DEPTH);
    let a_k = 4u * select(local / QUADS, local % 8u, A_ALONG_DEPTH);
    let b_quad = select(local % QUADS, local / 8u, B_ALONG_DEPTH);
    let b_k = 4u * select(local / QUADS, local % 8u, B_ALONG_DEPTH);
    let slot_a = a_slot(block, block.row + 4u * a_quad);
    let slot_b = b_slot(block, block.column + 4u * b_quad);
    // 2 x 4 subgroups.
    let row = subgroup / 4u * (4u * MATRIX);
    let column = subgroup % 4u * (2u * MATRIX);

    var s00 = Sum();
    var s01 = Sum();
    var s10 = Sum();
    var s11 = Sum();
    var s20 = Sum();
    var s21 = Sum();
    var s30 = Sum();
    var s31 = Sum();
    var next_a: mat4x4<f32>;
    var next_b: mat4x4<f32>;
    if brings {
        next_a = a_patch(block, slot_a, a_k);
        next_b = b_patch(block, slot_b, b_k);
    }
    for (var slab = 0u; slab < count; slab += SLAB) {
        if slab + SLAB > count {
            next_a = without_rest(next_a, A_IN_ROWS, slab + a_k, count);
            next_b = without_rest(next_b, B_IN_ROWS, slab + b_k, count);
        }
        if brings {
            let to_a = a_k * PITCH + 4u * a_quad;
            keep_a(to_a, at_k(next_a, A_IN_ROWS, 0u));
            keep_a(to_a + PITCH, at_k(next_a, A_IN_ROWS, 1u));
            keep_a(to_a + 2u * PITCH, at_k(next_a, A_IN_ROWS, 2u));
            keep_a(to_a + 3u * PITCH, at_k(next_a, A_IN_ROWS, 3u));
            let to_b = b_k * PITCH + 4u * b_quad;
            keep_b(to_b, at_k(next_b, B_IN_ROWS, 0u));
            keep_b(to_b + PITCH, at_k(next_b, B_IN_ROWS, 1u));
            keep_b(to_b + 2u * PITCH, at_k(next_b, B_IN_ROWS, 2u));
            keep_b(to_b + 3u * PITCH, at_k(next_b, B_IN_ROWS, 3u));
        }
        workgroupBarrier();
        if brings && slab + SLAB < count {
            next_a = a_patch(block, slot_a, slab + SLAB + a_k);
            next_b = b_patch(block, slot_b, slab + SLAB + b_k);
        }
        for (var k = 0u; k < SLAB; k += MATRIX) {
            let from_row = k * PITCH + row;
            let from_column = k * PITCH + column;
            let a0 = coopLoad<Left>(&a_tile[from_row], PITCH);
            let a1 = coopLoad<Left>(&a_tile[from_row + MATRIX], PITCH);
            let a2 = coopLoad<Left>(&a_tile[from_row + 2u * MATRIX], PITCH);
            let a3 = coopLoad<Left>(&a_tile[from_row + 3u * MATRIX], PITCH);
            let b0 = coopLoadT<Right>(&b_tile[from_column], PITCH);
            let b1 = coopLoadT<Right>(&b_tile[from_column + MATRIX], PITCH);
            s00 = coopMultiplyAdd(a0, b0, s00);
            s01 = coopMultiplyAdd(a0, b1, s01);
            s10 = coopMultiplyAdd(a1, b0, s10);
            s11 = coopMultiplyAdd(a1, b1, s11);
            s20 = coopMultiplyAdd(a2, b0, s20);
            s21 = coopMultiplyAdd(a2, b1, s21);
            s30 = coopMultiplyAdd(a3, b0, s30);
            s31 = coopMultiplyAdd(a3, b1, s31);
        }
        workgroupBarrier();
    }

    let first_row = select(block.row + row, 0x80000000u, block.outside);
    let first_column = block.column + column;
    store_matrix(block, s00, subgroup, lane, first_row, first_column);
    store_matrix(block, s01, subgroup, lane, first_row, first_column + MATRIX);
    store_matrix(block, s10, subgroup, lane, first_row + MATRIX, first_column);
    store_matrix(block, s11, subgroup, lane, first_row + MATRIX, first_column + MATRIX);
    store_matrix(block, s20, subgroup, lane, first_row + 2u * MATRIX, first_column);
    store_matrix(block, s21, subgroup, lane, first_row + 2u * MATRIX, first_column + MATRIX);
    store_matrix(block, s30, subgroup, lane, first_row + 3u * MATRIX, first_column);
    store_matrix(block, s31, subgroup, lane, first_row + 3u * MATRIX, first_column + MATRIX);
}
