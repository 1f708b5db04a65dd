// The sorted elements, and where in its row each stood.
//
// input   [..], of T
// sorted  [rows, length], sorted keys, each with where it stood
//
// `sort/row.wgsl` stands in front. Asks for: `result_0(value, index)`; `result_1(place, index)`. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i >= p.rows * p.length {
        return;
    }
    let row = i / p.length;
    let start = row_start(row);
    let place = sorted[i].y;
    let to = start + (i - row * p.length) * p.stride;
    result_0(input[start + place * p.stride], to);
    result_1(place, to);
}
