// A row of a block whose weights are formed again of its scores, for `attention/again.wgsl` and `attention/slopes.wgsl`:
//   weight = exp(score - lse)
//
// lse  [planes, queries], log of the sum of a row's exponentials
//
// Asks for `attention/row.wgsl`. Rows before p.fresh_rows and columns before p.fresh_columns were in another block.

struct BlockRow {
    row: Row,
    // Its first scores in the block.
    begin: u32,
    // Keys before this one do not count.
    fresh: U,
    // Its number among those of all planes.
    line: u32,
    level: F,
    // A row without weights has NaN everywhere.
    broken: F,
}

fn block_row(index: u32) -> BlockRow {
    let plane = index / p.rows;
    let local = index - plane * p.rows;
    let query = p.first_query + local;
    let fresh = U(select(p.keys, p.first_key + p.fresh_columns, local >= p.fresh_rows));
    let line = plane * p.queries + query;
    let level = F(lse[line]);
    let broken = F(select(1.0, nan(), lane_of(select(F(0.0), F(1.0), is_bad(level)), 0u) > 0.0));
    return BlockRow(row_of(plane, query), index * (p.columns / LANES), fresh, line, level, broken);
}

// Whether these keys are seen, and are this block's.
fn counted(own: BlockRow, keys: U) -> B {
    return seen(own.row, keys) & (keys >= own.fresh);
}

fn weight_again(own: BlockRow, product: F, keys: U) -> F {
    return exp_down(score(product, own.row, keys) - own.level) * own.broken;
}
