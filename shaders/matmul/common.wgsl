// What all kernels of a matrix product share:
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)). Products are added in ascending k, unless a kernel says otherwise.
//
// a, b: any layout: every axis is reached through a stride, from a_start and b_start on (all count elements), so a transposed
//       operand needs no copy and a stride of 0 broadcasts a batch axis. `from_a` and `from_b` give an element as f32 (`ops/product.rs`).
// c:    [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums, which have no epilogue: a
//       second kernel adds them in ascending order.

// A part of one product of the batch.
struct Part {
    is_outside: bool,
    // How many k it has, and where its operands begin.
    count: u32,
    a: u32,
    b: u32,
}

// Of the result's matrix `plane`, parts of a split included.
fn part_of(plane: u32) -> Part {
    let batches = p.batch_outer * p.batch_inner;
    let split = plane / batches;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    return Part(
        split >= p.splits,
        min(p.split_depth, p.depth - begin),
        p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin * p.a_column,
        p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row,
    );
}

// The tile of a workgroup: matrix of the result, first row, first column. Those of the same columns follow one another.
struct Tile {
    plane: u32,
    row: u32,
    column: u32,
}

fn tile_of(group_index: u32, rows: u32, columns: u32) -> Tile {
    let column_tiles = (p.columns + columns - 1u) / columns;
    let row_tiles = (p.rows + rows - 1u) / rows;
    let tile = group_index / row_tiles;
    let plane = tile / column_tiles;
    return Tile(plane, (group_index - tile * row_tiles) * rows, (tile - plane * column_tiles) * columns);
}
