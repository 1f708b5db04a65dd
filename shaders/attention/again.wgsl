// A block of scores to the weights that they had: weight = exp(score - lse). -0 where a query does not see the key, or another block has
// it: where a weight that is seen comes to nothing it is 0, and what follows tells them apart.
//
// binding 0  scores  [planes, rows, columns], products of queries and keys; becomes the weights
// binding 1  lse     [planes, queries], log of the sum of a row's exponentials
// binding 2  delta   [planes, queries], sum of the gradient times the result
// binding 3  means   [planes, rows], delta of the block's rows (written)
// then what `attention/row.wgsl` is asked about.
//
// Beside it: as `attention/weights.wgsl`; no dropout. Rows before p.fresh_rows and columns before p.fresh_columns were in another block.
// One invocation a row. Loops: columns / LANES iterations.

fn work(index: u32) {
    if index >= p.planes * p.rows {
        return;
    }
    let plane = index / p.rows;
    let local = index - plane * p.rows;
    let query = p.first_query + local;
    let row = row_of(plane, query);
    let steps = p.columns / LANES;
    let begin = index * steps;
    let fresh = U(select(p.keys, p.first_key + p.fresh_columns, local >= p.fresh_rows));
    let line = plane * p.queries + query;
    means[index] = delta[line];
    let level = F(lse[line]);
    let hidden = bitcast<F>(U(0x80000000u + p.zero));
    // A row without weights has NaN everywhere.
    let broken = F(select(1.0, nan(), lane_of(select(F(0.0), F(1.0), is_bad(level)), 0u) > 0.0));
    for (var c = 0u; c < steps; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let counts = seen(row, keys) & (keys >= fresh);
        let weight = exp_down(score(scores[begin + c], row, keys) - level) * broken;
        scores[begin + c] = select(hidden, weight, counts);
    }
}
