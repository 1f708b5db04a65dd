// Matrix product, register tile, no workgroup memory and no barrier:
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// Every axis of a and b is reached through a stride in elements, so a transposed operand needs no copy and a stride of 0
// broadcasts a batch axis. Products are added in ascending k.
//
// For adapters whose subgroups have exactly 8 lanes (lavapipe: subgroup_min_size = subgroup_max_size = 8), where a load costs
// as much as 8 scalar ones whatever it reads. Lane l reads a's row l once and broadcasts it to the others.
// Needs Features::SUBGROUP; control flow is uniform over the workgroup up to the stores.
//
// binding 0  a, any layout given by strides; its first element is a_start
// binding 1  b, alike
// binding 2  c [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums:
//            bind the identity epilogue and add the parts in ascending order with a second kernel.
//
// Sizes: `matmul/common.wgsl`, which goes in front. Constants (host prepends):
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   ROW_LOADS = 4  a tile has 8 * ROW_LOADS rows; ROW_LOADS * COLUMNS <= 16, else drivers stop unrolling
//   COLUMNS = 4    columns of an invocation
// Workgroup: (8, 1, 1), one subgroup.
// Grid: splits * batch_outer * batch_inner * ceil(rows / (8 * ROW_LOADS)) * ceil(columns / (8 * COLUMNS)) workgroups,
//       folded freely over x and y.
// Loops (those over the constants are unrolled): min(split_depth, depth) + ROWS iterations an invocation: split_depth <= 59,000.
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)); no part is empty.
// Loops that surely have a round end where one does (see ARCHITECTURE.md).

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(2) var<storage, read_write> c: array<OUT>;

const LANES: u32 = 8u;
const ROWS: u32 = ROW_LOADS * LANES;
const GROUP_ROWS: u32 = ROWS;
const GROUP_COLUMNS: u32 = COLUMNS * LANES;

@compute @workgroup_size(8, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let group_index = group.x + group.y * group_count.x;
    let column_tiles = (p.columns + GROUP_COLUMNS - 1u) / GROUP_COLUMNS;
    let row_tiles = (p.rows + GROUP_ROWS - 1u) / GROUP_ROWS;
    let batches = p.batch_outer * p.batch_inner;
    let tile = group_index / row_tiles;
    let plane = tile / column_tiles;
    let split = plane / batches;
    if split >= p.splits {
        return;
    }
    let row = (group_index - tile * row_tiles) * GROUP_ROWS;
    // Invocation x owns columns x, x + LANES, x + 2 * LANES, ..., so that neighbours read neighbouring elements.
    let column = (tile - plane * column_tiles) * GROUP_COLUMNS + local.x;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    let count = min(p.split_depth, p.depth - begin);

    // Rows and columns past the edge read the last one; their sums are never stored.
    var a_at: array<u32, ROW_LOADS>;
    let a_base = p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin * p.a_column;
    for (var i = 0u; i < ROW_LOADS; i++) {
        a_at[i] = a_base + min(row + i * LANES + local.x, p.rows - 1u) * p.a_row;
    }
    var b_at: array<u32, COLUMNS>;
    let b_base = p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row;
    for (var j = 0u; j < COLUMNS; j++) {
        b_at[j] = b_base + min(column + j * LANES, p.columns - 1u) * p.b_column;
    }

    var sum: array<array<f32, COLUMNS>, ROWS>;
    var a_step = 0u;
    var b_step = 0u;
    var k = 0u;
    loop {
        var b_value: array<f32, COLUMNS>;
        for (var j = 0u; j < COLUMNS; j++) {
            b_value[j] = from_b(b[b_at[j] + b_step]);
        }
        for (var i = 0u; i < ROW_LOADS; i++) {
            let a_value = from_a(a[a_at[i] + a_step]);
            let a0 = subgroupBroadcast(a_value, 0u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 0u][j] += a0 * b_value[j];
            }
            let a1 = subgroupBroadcast(a_value, 1u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 1u][j] += a1 * b_value[j];
            }
            let a2 = subgroupBroadcast(a_value, 2u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 2u][j] += a2 * b_value[j];
            }
            let a3 = subgroupBroadcast(a_value, 3u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 3u][j] += a3 * b_value[j];
            }
            let a4 = subgroupBroadcast(a_value, 4u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 4u][j] += a4 * b_value[j];
            }
            let a5 = subgroupBroadcast(a_value, 5u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 5u][j] += a5 * b_value[j];
            }
            let a6 = subgroupBroadcast(a_value, 6u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 6u][j] += a6 * b_value[j];
            }
            let a7 = subgroupBroadcast(a_value, 7u);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i * LANES + 7u][j] += a7 * b_value[j];
            }
        }
        a_step += p.a_column;
        b_step += p.b_row;
        k++;
        if k >= count {
            break;
        }
    }

    // Store the first row and move the others up: one copy of the epilogue a column instead of one an element.
    let row_end = min(row + ROWS, p.rows);
    var store_row = row;
    loop {
        let at = (plane * p.rows + store_row) * p.columns;
        for (var j = 0u; j < COLUMNS; j++) {
            let store_column = column + j * LANES;
            if store_column < p.columns {
                c[at + store_column] = epilogue(sum[0][j], at + store_column);
            }
        }
        for (var i = 0u; i < ROWS - 1u; i++) {
            sum[i] = sum[i + 1u];
        }
        store_row++;
        if store_row >= row_end {
            break;
        }
    }
}
