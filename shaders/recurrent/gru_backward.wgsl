// A step of a gated recurrent unit on the way back, of one F of units. With dh for the gradient of its result:
//   dn = dh (1 - z) (1 - n^2), dr = dn q r (1 - r), dz = dh (h - n) z (1 - z); of the product of n dn r; past it all dh z
//
// d        gradients of the products with the state: of r, z, q
// dx       [steps, rows, 3 hidden]: those of x: of r, z, n
// dstates  [steps + 1, rows, hidden], the gradient from outside
// carry    [rows, hidden]: what reaches the state before past the product

fn back(row: u32, unit: u32, product: F) {
    let width = p.hidden / WIDTH;
    let at = row * width + unit;
    let slot = p.rows * width;
    let lasts = is_within(row);
    let gate = (p.time * p.rows + row) * 4u * width + unit;
    let r = gates[gate];
    let z = gates[gate + width];
    let n = gates[gate + 2u * width];
    let q = gates[gate + 3u * width];
    let dh = product + carry[at] + dstates[p.here * slot + at];
    let dn = select(F(0.0), dh * (F(1.0) - z) * (F(1.0) - n * n), lasts);
    let dr = select(F(0.0), dn * q * r * (F(1.0) - r), lasts);
    let dz = select(F(0.0), dh * (states[p.before * slot + at] - n) * z * (F(1.0) - z), lasts);
    let to = (p.before * p.rows + row) * 3u * width + unit;
    d[to] = dr;
    d[to + width] = dz;
    d[to + 2u * width] = select(F(0.0), dn * r, lasts);
    let own = (p.time * p.rows + row) * 3u * width + unit;
    dx[own] = dr;
    dx[own + width] = dz;
    dx[own + 2u * width] = dn;
    carry[at] = select(dh, dh * z, lasts);
}
