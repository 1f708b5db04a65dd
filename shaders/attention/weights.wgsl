// A block of scores to weights that are not divided yet, by the running maximum of each row (Milakov and Gimelshein 2018):
//   top' = max(top, scores), weights = exp(score - top'), sum' = sum exp(top - top') + weights
//
// binding 0  scores  [planes, rows, columns], products of queries and keys; becomes the weights, with dropout
// binding 1  stats   [planes, rows], (top, sum, exp(top - top') or -1 at the first block of a row, above 0 if it has no weights)
// then what `attention/row.wgsl` is asked about.
//
// Beside it: `attention/row.wgsl`, `rows/one.wgsl` or `rows/four.wgsl` (LANES, lane_numbers), lanes_max and lanes_sum.
// One invocation a row. Loops: 2 * columns / LANES iterations.

fn work(index: u32) {
    if index >= p.planes * p.rows {
        return;
    }
    let plane = index / p.rows;
    let query = p.first_query + (index - plane * p.rows);
    let row = row_of(plane, query);
    let steps = p.columns / LANES;
    let begin = index * steps;
    let fresh = U(p.first_key + p.fresh_columns);
    var top = F(LEAST);
    for (var c = 0u; c < steps; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let x = score(scores[begin + c], row, keys);
        top = max(top, select(F(LEAST), x, seen(row, keys) & (keys >= fresh)));
    }
    let before = select(stats[index], vec4<f32>(LEAST, 0.0, 0.0, 0.0), vec4<bool>(p.is_first == 1u));
    let highest = max(lanes_max(top), F(before.x));
    var sum = F(0.0);
    var bad = F(0.0);
    for (var c = 0u; c < steps; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let x = score(scores[begin + c], row, keys);
        let counts = seen(row, keys) & (keys >= fresh);
        let weight = select(F(0.0), exp_down(x - highest), counts);
        bad = select(bad, F(1.0), counts & is_bad(x));
        sum += weight;
        scores[begin + c] = weight * factor(row, keys);
    }
    let now = lane_of(highest, 0u);
    let shrink = one_exp_down(before.x - now);
    stats[index] = vec4<f32>(
        now,
        before.y * shrink + lane_of(lanes_sum(sum), 0u),
        select(shrink, -1.0, p.is_first == 1u),
        max(before.w, lane_of(lanes_max(bad), 0u)),
    );
}

fn one_exp_down(x: f32) -> f32 {
    return lane_of(exp_down(F(x)), 0u);
}
