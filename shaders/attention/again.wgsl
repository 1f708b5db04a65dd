// A block of scores to the weights that they had. -0 where a query does not see the key, or another block has it: where a weight that is
// seen comes to nothing it is 0, and what follows tells them apart.
//
// binding 0  scores  [planes, rows, columns], products of queries and keys; becomes the weights
// binding 1  lse     as `attention/block_row.wgsl` has it
// binding 2  delta   [planes, queries], sum of the gradient times the result
// binding 3  means   [planes, rows], delta of the block's rows (written)
// then what `attention/row.wgsl` is asked about.
//
// Beside it: `attention/block_row.wgsl`, and as `attention/weights.wgsl`; no dropout. One invocation a row. Loops: columns / LANES iterations.

fn work(index: u32) {
    if index >= p.planes * p.rows {
        return;
    }
    let own = block_row(index);
    means[index] = delta[own.line];
    let hidden = bitcast<F>(U(0x80000000u + p.zero));
    for (var c = 0u; c < p.columns / LANES; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let weight = weight_again(own, scores[own.begin + c], keys);
        scores[own.begin + c] = select(hidden, weight, counted(own, keys));
    }
}
