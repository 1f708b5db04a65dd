// The keys of all elements, row after row.
//
// input  [..], of T
// keys   [rows, length] (written)
//
// `sort/row.wgsl` and `sort/key.wgsl` stand in front. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i >= p.rows * p.length {
        return;
    }
    let row = i / p.length;
    keys[i] = key_of(input[row_start(row) + (i - row * p.length) * p.stride]);
}
