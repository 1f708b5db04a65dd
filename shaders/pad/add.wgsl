// Adds a part to a result from a start on: result[o, start + j, i] += part[o, j, i].
//
// part    [outer, length, inner]; a block of it has p.span elements, one of the result p.total
// start   [1]
// result  [outer, .., inner] (read and written)
//
// Workgroups: ceil(elements / 64).

fn work(i: u32) {
    if i >= p.elements {
        return;
    }
    let outer = i / p.span;
    result[outer * p.total + start[0] * p.inner + i - outer * p.span] += part[i];
}
