// Where the run of each place of an axis begins and ends in the sorted positions of an index vector, by bisection.
//
// index  [count]
// order  [count], sorted positions
// runs   [length], (begin, end) of each place; place `padding` gets an empty run
//
// Workgroups: ceil(length / 64). Iterations: 64.

// The first of the sorted positions that picks `place` or more.
fn lower_bound(place: u32) -> u32 {
    var low = 0u;
    var high = p.count;
    while low < high {
        let middle = (low + high) / 2u;
        if index[order[middle]] < place {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

fn work(place: u32) {
    if place >= p.length {
        return;
    }
    var run = vec2<u32>(lower_bound(place), lower_bound(place + 1u));
    if place == p.padding {
        run = vec2<u32>(0u);
    }
    runs[place] = run;
}
