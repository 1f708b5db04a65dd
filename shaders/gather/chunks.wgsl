// Sums of chunks of the sorted positions that lie within the run of one place, in order: so a place that is picked often is no long
// loop of one invocation. Chunks of several places are left out; `gather/long.wgsl` does not ask for them.
//
// sorted   [count], (target, position) in order
// grad     [outer, count, columns], of G
// partial  [outer, chunks, columns], of G (written)
//
// Asks for: `alias W`, a sum; `gather/floats.wgsl` or `gather/pairs.wgsl`; `fn empty() -> W`; `fn joined(a: W, b: W) -> W`.
// Workgroups: ceil(outer * chunks * columns / 64). Iterations: chunk.

fn work(i: u32) {
    if i >= p.partials {
        return;
    }
    let row = i / p.columns;
    let column = i - row * p.columns;
    let outer = row / p.chunks;
    let first = (row - outer * p.chunks) * p.chunk;
    let last = first + p.chunk;
    if sorted[first].x != sorted[last - 1u].x {
        return;
    }
    var total = empty();
    for (var s = first; s < last; s++) {
        total = joined(total, value_of(grad[(outer * p.count + sorted[s].y) * p.columns + column]));
    }
    partial[i] = packed(total);
}
