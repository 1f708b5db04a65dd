// What was picked from each place, summed in a fixed order: result[o, v, i] = sum over the positions r that picked v of grad[o, r, i].
// The positions are sorted by what they pick, and each place knows its run of them. Of a long run, chunks that lie within it are
// summed already, and come behind what is alone.
//
// order    [count], sorted positions; a chunk has p.chunk of them, a power of two
// runs     [places], (begin, end) of each place
// grad     [outer, count, columns], of G: a float, four or eight
// result   [outer, places, columns]
//
// An invocation takes EACH columns, which share what is read of the run: neighbours read side by side, so each takes every
// columns / EACH-th.
//
// Asks for: `alias W`, a sum; `gather/floats.wgsl` or `gather/pairs.wgsl`; `const EACH: u32`, which divides the columns; `totals`, a
// private array of EACH of W, in whose type no alias may be; `const ONE_BLOCK`, true where there is one `outer`; `const CHUNKS`, true
// where there are any; `fn empty() -> W`; `fn joined(a: W, b: W) -> W`; `fn of_chunk(at: u32) -> W`; `store(at, value)`.
// Workgroups: ceil(units / 64). Iterations: (2 chunk + count / chunk) EACH.

fn work(unit: u32) {
    if unit >= p.units {
        return;
    }
    let wide = p.columns / EACH;
    let row = unit / wide;
    let column = unit - row * wide;
    var outer = 0u;
    if !ONE_BLOCK {
        outer = row / p.places;
    }
    let run = runs[row - outer * p.places];
    let base = outer * p.count;
    for (var k = 0u; k < EACH; k++) {
        totals[k] = empty();
    }
    // The chunks that lie within the run, which are passed over first.
    let first = (run.x + p.chunk - 1u) >> p.bits;
    let last = run.y >> p.bits;
    let inside = first < last;
    var s = select(run.x, last << p.bits, inside && run.x == first << p.bits);
    // Loops end where a round does, and what a lane that has left would add is asked for: docs/software-drivers.md, "lanes that have left".
    loop {
        if s < run.y {
            let at = (base + order[s]) * p.columns + column;
            for (var k = 0u; k < EACH; k++) {
                totals[k] = joined(totals[k], value_of(grad[at + k * wide]));
            }
        }
        s++;
        s = select(s, last << p.bits, inside && s == first << p.bits);
        if s >= run.y {
            break;
        }
    }
    if CHUNKS {
        var c = first;
        loop {
            if c < last {
                let at = (outer * p.chunks + c) * p.columns + column;
                for (var k = 0u; k < EACH; k++) {
                    totals[k] = joined(totals[k], of_chunk(at + k * wide));
                }
            }
            c++;
            if c >= last {
                break;
            }
        }
    }
    for (var k = 0u; k < EACH; k++) {
        store(row * p.columns + column + k * wide, totals[k]);
    }
}
