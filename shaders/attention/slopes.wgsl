// A block of scores, and of the gradients of its weights, to the weights and the gradients of the scores' products:
//   weight = exp(score - lse), slope = weight (dweight - delta) scale
//
// binding 0  scores  [planes, rows, columns], products of queries and keys; becomes the weights, with dropout
// binding 1  slopes  [planes, rows, columns], products of the gradient and values; becomes the gradient of the first products
// binding 2  lse     [planes, queries], log of the sum of a row's exponentials
// binding 3  delta   [planes, queries], sum of the gradient times the result
// then what `attention/row.wgsl` is asked about.
//
// Beside it: as `attention/weights.wgsl`. Rows before p.fresh_rows and columns before p.fresh_columns were in another block:
// they give 0. One invocation a row. Loops: columns / LANES iterations.

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
    let level = F(lse[line]);
    // A row without weights has NaN everywhere.
    let broken = F(select(1.0, nan(), lane_of(select(F(0.0), F(1.0), is_bad(level)), 0u) > 0.0));
    for (var c = 0u; c < steps; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let product = scores[begin + c];
        let counts = seen(row, keys) & (keys >= fresh);
        let weight = select(F(0.0), exp_down(score(product, row, keys) - level) * broken, counts);
        let kept = factor(row, keys);
        scores[begin + c] = weight * kept;
        let slope = weight * (slopes[begin + c] * kept - F(delta[line])) * cap_slope(product * p.scale) * p.scale;
        slopes[begin + c] = select(F(0.0), slope, counts);
    }
}
