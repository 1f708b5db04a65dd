// What was picked from each place, summed in a fixed order: result[o, v, i] = sum over the positions r that picked v of grad[o, r, i].
// The positions are sorted by what they pick, and each place knows its run of them. Of a long run, chunks that lie within it are
// summed already.
//
// order    [count], sorted positions
// runs     [places], (begin, end) of each place
// grad     [outer, count, columns], of W: a float or four
// result   [outer, places, columns]
//
// Asks for: `alias W`; `fn empty() -> W`; `fn joined(a: W, b: W) -> W`; `fn of_chunk(at: u32) -> W`, where p.chunks is not 0;
// `store(at, value)`. Workgroups: ceil(units / 64). Iterations: 2 chunk + count / chunk.

fn work(unit: u32) {
    if unit >= p.units {
        return;
    }
    let row = unit / p.columns;
    let column = unit - row * p.columns;
    let outer = row / p.places;
    let run = runs[row - outer * p.places];
    let base = outer * p.count;
    var total = empty();
    var s = run.x;
    if run.y - run.x >= p.chunk {
        let first = (run.x + p.chunk - 1u) / p.chunk;
        let last = run.y / p.chunk;
        if first < last {
            while s < first * p.chunk {
                total = joined(total, grad[(base + order[s]) * p.columns + column]);
                s++;
            }
            for (var k = first; k < last; k++) {
                total = joined(total, of_chunk((outer * p.chunks + k) * p.columns + column));
            }
            s = last * p.chunk;
        }
    }
    while s < run.y {
        total = joined(total, grad[(base + order[s]) * p.columns + column]);
        s++;
    }
    store(unit, total);
}
