// The sum of each span of the counts: an invocation a span. With `radix/before.wgsl` and `radix/offsets.wgsl` it makes of each count
// the sum of all counts before it, which is where the first key of its digit and run belongs: a row has `length` keys, so the
// sums of one row begin where the row does.
//
// counts  [total]
// sums    [spans] (written)
//
// Workgroups: ceil(spans / 64). Iterations: span.

fn work(i: u32) {
    if i >= p.spans {
        return;
    }
    let last = min((i + 1u) * p.span, p.total);
    var sum = 0u;
    for (var k = i * p.span; k < last; k++) {
        sum += counts[k];
    }
    sums[i] = sum;
}
