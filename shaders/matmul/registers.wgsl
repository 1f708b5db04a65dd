// Matrix product, register tile, no workgroup memory and no barrier:
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// Every axis of a and b is reached through a stride in elements, so a transposed operand needs no copy and a stride of 0
// broadcasts a batch axis. Products are added in ascending k.
//
// Each invocation keeps a ROWS x COLUMNS tile of c in registers.
//
// binding 0  a, any layout given by strides; its first element is a_start
// binding 1  b, alike
// binding 2  c [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums:
//            bind the identity epilogue and add the parts in ascending order with a second kernel.
//
// Sizes: `matmul/common.wgsl`, which goes in front. Constants (host prepends):
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   ROWS = 8, COLUMNS = 8    tile of an invocation
//   GROUP_X = 8, GROUP_Y = 1 invocations a workgroup, along columns and along rows (discrete GPU: 16 and 8 or 16)
// Workgroup: (GROUP_X, GROUP_Y, 1).
// Grid: splits * batch_outer * batch_inner * ceil(rows / (ROWS * GROUP_Y)) * ceil(columns / (COLUMNS * GROUP_X)) workgroups,
//       folded freely over x and y.
// Loops (those over the constants are unrolled): min(split_depth, depth) + ROWS iterations an invocation: split_depth <= 59,000.
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)); an empty part or depth = 0 gives 0.

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(2) var<storage, read_write> c: array<OUT>;

const GROUP_ROWS: u32 = ROWS * GROUP_Y;
const GROUP_COLUMNS: u32 = COLUMNS * GROUP_X;

@compute @workgroup_size(GROUP_X, GROUP_Y, 1)
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
    let row = (group_index - tile * row_tiles) * GROUP_ROWS + local.y * ROWS;
    // Invocation x owns columns x, x + GROUP_X, x + 2 * GROUP_X, ..., so that neighbours read neighbouring elements.
    let column = (tile - plane * column_tiles) * GROUP_COLUMNS + local.x;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    let count = min(p.split_depth, p.depth - begin);

    // Rows and columns past the edge read the last one; their sums are never stored.
    var a_at: array<u32, ROWS>;
    let a_base = p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin * p.a_column;
    for (var i = 0u; i < ROWS; i++) {
        a_at[i] = a_base + min(row + i, p.rows - 1u) * p.a_row;
    }
    var b_at: array<u32, COLUMNS>;
    let b_base = p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row;
    for (var j = 0u; j < COLUMNS; j++) {
        b_at[j] = b_base + min(column + j * GROUP_X, p.columns - 1u) * p.b_column;
    }

    var sum: array<array<f32, COLUMNS>, ROWS>;
    var a_step = 0u;
    var b_step = 0u;
    for (var k = 0u; k < count; k++) {
        var b_value: array<f32, COLUMNS>;
        for (var j = 0u; j < COLUMNS; j++) {
            b_value[j] = from_b(b[b_at[j] + b_step]);
        }
        for (var i = 0u; i < ROWS; i++) {
            let a_value = from_a(a[a_at[i] + a_step]);
            for (var j = 0u; j < COLUMNS; j++) {
                sum[i][j] += a_value * b_value[j];
            }
        }
        a_step += p.a_column;
        b_step += p.b_row;
    }

    // Store the first row and move the others up: one copy of the epilogue a column instead of one an element.
    let row_end = min(row + ROWS, p.rows);
    for (var store_row = row; store_row < row_end; store_row++) {
        let at = (plane * p.rows + store_row) * p.columns;
        for (var j = 0u; j < COLUMNS; j++) {
            let store_column = column + j * GROUP_X;
            if store_column < p.columns {
                c[at + store_column] = epilogue(sum[0][j], at + store_column);
            }
        }
        for (var i = 0u; i < ROWS - 1u; i++) {
            sum[i] = sum[i + 1u];
        }
    }
}
