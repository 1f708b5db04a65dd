// What was picked from each place, summed in a fixed order: result[o, v, i] = sum over the positions r that picked v of grad[o, r, i].
// The positions are sorted by what they pick, and each place knows its run of them. Long runs are left to `gather/long.wgsl`: one more
// loop would cost each lane a round of it.
//
// sorted   [count], (target, position) in order; a chunk has p.chunk of them, a power of two
// runs     [places], (begin, end) of each place
// grad     [outer, count, columns], of G: a float, four or eight
// result   [outer, places, columns]
//
// An invocation takes EACH columns, which share what is read of the run: neighbours read side by side, so each takes every
// columns / EACH-th.
//
// `gather/inside.wgsl` stands in front. Asks for: `alias W`, a sum; `gather/floats.wgsl` or `gather/pairs.wgsl`; `const EACH: u32`, which
// divides the columns; `totals`, a private array of EACH of W, in whose type no alias may be; `const ONE_BLOCK`, true where there is one
// `outer`; `const CHUNKS`, true where there are any; `fn empty() -> W`; `fn joined(a: W, b: W) -> W`; `store(at, value)`.
// Workgroups: ceil(units / 64). Iterations: 2 chunk EACH.

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
    if CHUNKS && has_chunks(run) {
        return;
    }
    let base = outer * p.count;
    for (var k = 0u; k < EACH; k++) {
        totals[k] = empty();
    }
    var s = run.x;
    // A loop ends where a round does, and what a lane that has left would add is asked for: docs/software-drivers.md, "lanes that have left".
    loop {
        if s < run.y {
            let at = (base + sorted[s].y) * p.columns + column;
            for (var k = 0u; k < EACH; k++) {
                totals[k] = joined(totals[k], value_of(grad[at + k * wide]));
            }
        }
        s++;
        if s >= run.y {
            break;
        }
    }
    for (var k = 0u; k < EACH; k++) {
        store(row * p.columns + column + k * wide, totals[k]);
    }
}
