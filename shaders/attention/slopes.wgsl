// A block of scores, and of the gradients of its weights, to the weights and the gradients of the scores' products:
//   slope = weight (dweight - delta) scale
//
// binding 0  scores  [planes, rows, columns], products of queries and keys; becomes the weights, with dropout
// binding 1  slopes  [planes, rows, columns], products of the gradient and values; becomes the gradient of the first products
// binding 2  lse     as `attention/block_row.wgsl` has it
// binding 3  delta   [planes, queries], sum of the gradient times the result
// then what `attention/row.wgsl` is asked about.
//
// Beside it: `attention/block_row.wgsl`, and as `attention/weights.wgsl`. What is in another block gives 0. One invocation a row.
// Loops: columns / LANES iterations.

fn work(index: u32) {
    if index >= p.planes * p.rows {
        return;
    }
    let own = block_row(index);
    let mean = F(delta[own.line]);
    for (var c = 0u; c < p.columns / LANES; c++) {
        let keys = lane_numbers(p.first_key + c * LANES);
        let at = own.begin + c;
        let product = scores[at];
        let counts = counted(own, keys);
        let weight = select(F(0.0), weight_again(own, product, keys), counts);
        let kept = factor(own.row, keys);
        scores[at] = weight * kept;
        let slope = weight * (slopes[at] * kept - mean) * cap_slope(product * p.scale) * p.scale;
        slopes[at] = select(F(0.0), slope, counts);
    }
}
