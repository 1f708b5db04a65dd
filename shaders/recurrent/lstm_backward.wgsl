// A step of a long short-term memory on the way back, of one F of units. With dh and dc for the gradients of its results and t = tanh(c'):
//   e = dc + dh o (1 - t^2); gradients of the lines e g i (1 - i), e c f (1 - f), e i (1 - g^2), dh t o (1 - o); dc of the step before e f
//
// dstates  [steps + 1, rows, hidden], the gradient from outside; dcells alike, where there is one
// carry    [2, rows, hidden]: what passes rows by whose sequence has ended, and dc

fn back(row: u32, unit: u32, product: F) {
    let width = p.hidden / WIDTH;
    let at = row * width + unit;
    let slot = p.rows * width;
    let lasts = is_within(row);
    let gate = (p.time * p.rows + row) * 4u * width + unit;
    let i = gates[gate];
    let f = gates[gate + width];
    let g = gates[gate + 2u * width];
    let o = gates[gate + 3u * width];
    let before = cells[p.before * slot + at];
    let t = tanh_full(cells[p.here * slot + at]);
    let dh = product + carry[at] + dstates[p.here * slot + at];
    let dc = carry[slot + at] + dcell(p.here * slot + at);
    let e = dc + dh * o * (F(1.0) - t * t);
    let to = (p.before * p.rows + row) * 4u * width + unit;
    d[to] = select(F(0.0), e * g * i * (F(1.0) - i), lasts);
    d[to + width] = select(F(0.0), e * before * f * (F(1.0) - f), lasts);
    d[to + 2u * width] = select(F(0.0), e * i * (F(1.0) - g * g), lasts);
    d[to + 3u * width] = select(F(0.0), dh * t * o * (F(1.0) - o), lasts);
    carry[at] = select(dh, F(0.0), lasts);
    carry[slot + at] = select(dc, e * f, lasts);
}
