// A step of a plain recurrent network on the way back, of one F of units: the gradient of its result times the activation's slope.
//
// dstates  [steps + 1, rows, hidden], the gradient from outside
// carry    [rows, hidden]: what passes rows by whose sequence has ended
// Asks for: `slope(h)`, the activation's slope by its value.

fn back(row: u32, unit: u32, product: F) {
    let width = p.hidden / WIDTH;
    let at = row * width + unit;
    let slot = p.rows * width;
    let lasts = is_within(row);
    let dh = product + carry[at] + dstates[p.here * slot + at];
    d[p.before * slot + at] = select(F(0.0), dh * slope(states[p.here * slot + at]), lasts);
    carry[at] = select(dh, F(0.0), lasts);
}
