// The weight of a score and the gradient of its product, for the backward kernels on GPUs:
//   w = exp(score - lse), g = w (dw - delta) scale
//
// binding 4  lse    [planes, queries], log of the sum of a row's exponentials
// binding 5  delta  [planes, queries], sum of the gradient times the result

struct Slope {
    // With dropout.
    weight: f32,
    product: f32,
}

// Of a product of a query and a key and one of dy and a value; both 0 where the query does not see the key.
fn slope(product: f32, of_value: f32, row: Row, line: u32, key: u32, is_there: bool) -> Slope {
    let level = lse[line];
    let counts = seen(row, key) && is_there;
    let broken = select(1.0, nan(), is_bad(level));
    let weight = select(0.0, exp_down(score(product, row, key) - level) * broken, counts);
    let kept = factor(row, key);
    let gradient = weight * (of_value * kept - delta[line]) * cap_slope(product * p.scale) * p.scale;
    return Slope(weight * kept, select(0.0, gradient, counts));
}
