// No place is taken yet.
//
// takers  u32, [planes, area]
//
// Workgroups: ceil(elements / 64).

fn work(index: u32) {
    if index < p.elements {
        takers[index] = 0u;
    }
}
