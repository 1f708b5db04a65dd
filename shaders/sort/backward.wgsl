// What was sorted back where it stood: result[row, order[row, j]] = sorted[row, j].
//
// order   [..], u32
// sorted  [..], f32; result as it
//
// `sort/row.wgsl` stands in front. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i >= p.rows * p.length {
        return;
    }
    let row = i / p.length;
    let start = row_start(row);
    let at = start + (i - row * p.length) * p.stride;
    let to = start + min(order[at], p.length - 1u) * p.stride;
    result[to] = epilogue(sorted[at], to);
}
