// The product of `matmul/common.wgsl`, register tile, no workgroup memory and no barrier: an invocation keeps a ROWS x COLUMNS tile of c in
// registers. `matmul/rows.wgsl` or `matmul/rows_subgroup.wgsl` has its sums.
//
// Workgroup: (GROUP_X, GROUP_Y, 1).
// Grid: splits * batch_outer * batch_inner * ceil(rows / (ROWS * GROUP_Y)) * ceil(columns / (COLUMNS * GROUP_X)) workgroups,
//       folded freely over x and y.
// Loops (those over the constants are unrolled): min(split_depth, depth) + ROWS iterations an invocation: split_depth <= 59,000.
// An empty part or depth = 0 gives 0. The loop ends where a round does.

@compute @workgroup_size(GROUP_X, GROUP_Y, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tile = tile_of(group.x + group.y * group_count.x, ROWS * GROUP_Y, COLUMNS * GROUP_X);
    let part = part_of(tile.plane);
    if part.is_outside {
        return;
    }
    let row = tile.row + local.y * ROWS;
    // Invocation x owns columns x, x + GROUP_X, x + 2 * GROUP_X, ..., so that neighbours read neighbouring elements.
    let column = tile.column + local.x;

    // Rows and columns past the edge read the last one; their sums are never stored.
    var a_at: array<u32, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        a_at[i] = part.a + min(row + row_of(i, local.x), p.rows - 1u) * p.a_row;
    }
    var b_at: array<u32, COLUMNS>;
    for (var j = 0u; j < COLUMNS; j++) {
        b_at[j] = part.b + min(column + j * GROUP_X, p.columns - 1u) * p.b_column;
    }

    var sum: array<array<f32, COLUMNS>, ROWS>;
    if !MAY_BE_EMPTY || part.count > 0u {
        var a_step = 0u;
        var b_step = 0u;
        var k = 0u;
        loop {
            var b_values: array<f32, COLUMNS>;
            for (var j = 0u; j < COLUMNS; j++) {
                b_values[j] = from_b(b[b_at[j] + b_step]);
            }
            for (var i = 0u; i < LOADS; i++) {
                add_load(&sum, i, from_a(a[a_at[i] + a_step]), &b_values);
            }
            a_step += p.a_column;
            b_step += p.b_row;
            k++;
            if k >= part.count {
                break;
            }
        }
    }

    // Store the first row and move the others up: one copy of the epilogue a column instead of one an element.
    if row >= p.rows {
        return;
    }
    let row_end = min(row + ROWS, p.rows);
    var store_row = row;
    loop {
        let at = (tile.plane * p.rows + store_row) * p.columns;
        for (var j = 0u; j < COLUMNS; j++) {
            let store_column = column + j * GROUP_X;
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
