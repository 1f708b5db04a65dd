// What each cell has come to.
//
// cells   [elements]
// result  [elements]
//
// Asks for: `value(cell)`; `epilogue(value, index)`. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i < p.elements {
        result[i] = epilogue(value(cells[i]), i);
    }
}
