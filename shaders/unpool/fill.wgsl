// The elements at the places that they take, zeros elsewhere.
//
// x       [planes, count]
// takers  u32, [planes, area]
// y       [planes, area], through `epilogue`
//
// Workgroups: ceil(elements / 64).

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let taker = takers[index];
    let value = from_a(x[select(0u, index / p.area * p.count + taker - 1u, taker > 0u)]);
    y[index] = epilogue(select(0.0, value, taker > 0u), index);
}
