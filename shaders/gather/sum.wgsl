// What was picked from each place, summed in a fixed order: result[o, v, i] = sum over the positions r that picked v of grad[o, r, i].
// The positions are sorted by what they pick, and each place knows its run of them. Of a long run, chunks that lie within it are
// summed already.
//
// order    [count], sorted positions
// runs     [places], (begin, end) of each place
// grad     [outer, count, columns], of G: a float, four or eight
// result   [outer, places, columns]
//
// An invocation takes EACH columns side by side, which share what is read of the run.
//
// Asks for: `alias W`, a sum; `gather/floats.wgsl` or `gather/pairs.wgsl`; `const EACH: u32`, which divides the
// columns; `totals`, a private array of EACH of W, in whose type no alias may be; `const ONE_BLOCK`, true where there is one `outer`; `fn empty() -> W`; `fn joined(a: W, b: W) -> W`; `fn of_chunk(at: u32) -> W`,
// where p.chunks is not 0; `store(at, value)`.
// Workgroups: ceil(units / 64). Iterations: (2 chunk + count / chunk) EACH.

fn add_row(at: u32) {
    for (var k = 0u; k < EACH; k++) {
        totals[k] = joined(totals[k], value_of(grad[at + k]));
    }
}

fn work(unit: u32) {
    if unit >= p.units {
        return;
    }
    let wide = p.columns / EACH;
    let row = unit / wide;
    let column = (unit - row * wide) * EACH;
    var outer = 0u;
    if !ONE_BLOCK {
        outer = row / p.places;
    }
    let run = runs[row - outer * p.places];
    let base = outer * p.count;
    for (var k = 0u; k < EACH; k++) {
        totals[k] = empty();
    }
    var s = run.x;
    if run.y - run.x >= p.chunk {
        let first = (run.x + p.chunk - 1u) / p.chunk;
        let last = run.y / p.chunk;
        if first < last {
            while s < first * p.chunk {
                add_row((base + order[s]) * p.columns + column);
                s++;
            }
            for (var c = first; c < last; c++) {
                let at = (outer * p.chunks + c) * p.columns + column;
                for (var k = 0u; k < EACH; k++) {
                    totals[k] = joined(totals[k], of_chunk(at + k));
                }
            }
            s = last * p.chunk;
        }
    }
    while s < run.y {
        add_row((base + order[s]) * p.columns + column);
        s++;
    }
    for (var k = 0u; k < EACH; k++) {
        store(row * p.columns + column + k, totals[k]);
    }
}
