// What each cell holds before anything comes.
//
// cells  [elements] (written)
//
// Asks for: `first(i)`. Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i < p.elements {
        cells[i] = first(i);
    }
}
