// Which element takes each place: the last of those that name it, by its number in the plane plus 1. A maximum of integers is the
// same in whatever order they come.
//
// places  u32, [planes, count]; what is beyond `area` (a negative i32 too) is left out
// takers  atomic u32, [planes, area]
//
// Workgroups: ceil(elements / 64).

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let plane = index / p.count;
    let place = places[index];
    if place < p.area {
        atomicMax(&takers[plane * p.area + place], index - plane * p.count + 1u);
    }
}
