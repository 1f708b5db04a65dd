// Sums of the runs within which whole chunks lie, which `gather/sum.wgsl` leaves out: what is before the first chunk, the chunks, which are
// summed already, what is behind the last.
//
// sorted, runs, grad, result  as in `gather/sum.wgsl`
// partial                     [outer, chunks, columns], of G
//
// An invocation a chunk and a column; that of a run's first chunk has it all to do.
//
// `gather/inside.wgsl` stands in front. Asks for what `gather/chunks.wgsl` does, and for `store(at, value)`.
// Workgroups: ceil(outer * chunks * columns / 64). Iterations: 2 chunk + count / chunk.

fn work(i: u32) {
    if i >= p.partials {
        return;
    }
    let row = i / p.columns;
    let column = i - row * p.columns;
    let outer = row / p.chunks;
    let chunk = row - outer * p.chunks;
    let place = sorted[chunk * p.chunk].x;
    if place >= p.places {
        return;
    }
    let run = runs[place];
    let within = inside(run);
    if chunk != within.x || !has_chunks(run) {
        return;
    }
    var total = empty();
    for (var s = run.x; s < within.x * p.chunk; s++) {
        total = joined(total, value_of(grad[(outer * p.count + sorted[s].y) * p.columns + column]));
    }
    for (var c = within.x; c < within.y; c++) {
        total = joined(total, value_of(partial[(outer * p.chunks + c) * p.columns + column]));
    }
    for (var s = within.y * p.chunk; s < run.y; s++) {
        total = joined(total, value_of(grad[(outer * p.count + sorted[s].y) * p.columns + column]));
    }
    store((outer * p.places + place) * p.columns + column, total);
}
