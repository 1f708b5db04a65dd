// What is there before the first step back: no gradient of a next step, and none that is carried.
//
// d      `p.elements` from `p.first` on
// carry  `p.carried`
// Grid: ceil(max(elements, carried) / 64), folded.

fn work(i: u32) {
    if i < p.elements {
        d[p.first + i] = 0.0;
    }
    if i < p.carried {
        carry[i] = 0.0;
    }
}
