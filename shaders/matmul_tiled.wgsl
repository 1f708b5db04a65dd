// Matrix product, tiles in workgroup memory:
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// Every axis of a and b is reached through a stride in elements, so a transposed operand needs no copy and a stride of 0
// broadcasts a batch axis. Products are added in ascending k.
//
// For GPUs with real workgroup memory: a 64 x 64 tile of c a workgroup, slabs of 16 along k in workgroup memory (8,320 bytes),
// 4 x 4 elements an invocation, 16 apart.
//
// binding 0  a, any layout given by strides; its first element is a_start
// binding 1  b, alike
// binding 2  c [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums:
//            bind the identity epilogue and add the parts in ascending order with a second kernel.
//
// Constants (host prepends):
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   A_DEPTH_CONTIGUOUS, B_DEPTH_CONTIGUOUS: bool   the axis k of a (a_column = 1), of b (b_row = 1) is the contiguous one;
//                                                  they only steer which elements neighbours load
// Workgroup: (256, 1, 1).
// Grid: splits * batch_outer * batch_inner * ceil(rows / 64) * ceil(columns / 64) workgroups,
//       folded freely over x and y.
// Loops (those over the constants are unrolled): ceil(min(split_depth, depth) / 16) * 21 + 8 iterations an invocation at most: split_depth <= 45,000.
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)); an empty part or depth = 0 gives 0.

struct Params {
    rows: u32,
    columns: u32,
    depth: u32,
    batch_outer: u32,
    batch_inner: u32,
    splits: u32,
    split_depth: u32,
    a_batch_outer: u32,
    a_batch_inner: u32,
    a_row: u32,
    a_column: u32,
    b_batch_outer: u32,
    b_batch_inner: u32,
    b_row: u32,
    b_column: u32,
    a_start: u32,
    b_start: u32,
}

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(2) var<storage, read_write> c: array<OUT>;
@group(0) @binding(15) var<uniform> p: Params;

const SIDE: u32 = 64u;
const SLAB: u32 = 16u;
const THREADS: u32 = 256u;
// One element of padding keeps column-wise stores off one memory bank.
const PITCH: u32 = SIDE + 1u;

var<workgroup> a_tile: array<f32, SLAB * PITCH>;
var<workgroup> b_tile: array<f32, SLAB * PITCH>;

@compute @workgroup_size(256, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_index = group.x + group.y * group_count.x;
    let column_tiles = (p.columns + SIDE - 1u) / SIDE;
    let row_tiles = (p.rows + SIDE - 1u) / SIDE;
    let batches = p.batch_outer * p.batch_inner;
    // Bands of 4 row tiles share their part of b in the cache.
    let plane = group_index / (row_tiles * column_tiles);
    let tile = group_index - plane * (row_tiles * column_tiles);
    let band = tile / (4u * column_tiles);
    let band_rows = min(4u, row_tiles - band * 4u);
    let in_band = tile - band * 4u * column_tiles;
    let split = plane / batches;
    if split >= p.splits {
        return;
    }
    let tile_row = (band * 4u + in_band % band_rows) * SIDE;
    let tile_column = (in_band / band_rows) * SIDE;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    let count = min(p.split_depth, p.depth - begin);

    let a_base = p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin * p.a_column;
    let b_base = p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row;
    let x = local % 16u;
    let y = local / 16u;

    var sum: array<array<f32, 4>, 4>;
    for (var slab = 0u; slab < count; slab += SLAB) {
        // Each invocation brings 4 elements of either tile, neighbours along the contiguous axis. Rows and columns past the
        // edge repeat the last one and are never stored; past the depth both tiles hold 0.
        for (var i = 0u; i < 4u; i++) {
            let at = local + i * THREADS;
            let a_k = select(at / SIDE, at % SLAB, A_DEPTH_CONTIGUOUS);
            let a_i = select(at % SIDE, at / SLAB, A_DEPTH_CONTIGUOUS);
            let a_inside = slab + a_k < count;
            let a_from = a_base + min(tile_row + a_i, p.rows - 1u) * p.a_row + (slab + a_k) * p.a_column;
            a_tile[a_k * PITCH + a_i] = select(0.0, from_a(a[select(0u, a_from, a_inside)]), a_inside);
            let b_k = select(at / SIDE, at % SLAB, B_DEPTH_CONTIGUOUS);
            let b_j = select(at % SIDE, at / SLAB, B_DEPTH_CONTIGUOUS);
            let b_inside = slab + b_k < count;
            let b_from = b_base + min(tile_column + b_j, p.columns - 1u) * p.b_column + (slab + b_k) * p.b_row;
            b_tile[b_k * PITCH + b_j] = select(0.0, from_b(b[select(0u, b_from, b_inside)]), b_inside);
        }
        workgroupBarrier();
        for (var k = 0u; k < SLAB; k++) {
            var b_value: array<f32, 4>;
            for (var j = 0u; j < 4u; j++) {
                b_value[j] = b_tile[k * PITCH + x + 16u * j];
            }
            for (var i = 0u; i < 4u; i++) {
                let a_value = a_tile[k * PITCH + y + 16u * i];
                for (var j = 0u; j < 4u; j++) {
                    sum[i][j] += a_value * b_value[j];
                }
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < 4u; i++) {
        let row = tile_row + y + 16u * i;
        for (var j = 0u; j < 4u; j++) {
            let column = tile_column + x + 16u * j;
            if row < p.rows && column < p.columns {
                let index = (plane * p.rows + row) * p.columns + column;
                c[index] = epilogue(sum[i][j], index);
            }
        }
    }
}
