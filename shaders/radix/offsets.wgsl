// Each count becomes the sum of the counts before it: an invocation a span.
//
// sums    [spans], of the spans before each
// counts  [total]
//
// Workgroups: ceil(spans / 64). Iterations: span.

fn work(i: u32) {
    if i >= p.spans {
        return;
    }
    let last = min((i + 1u) * p.span, p.total);
    var before = sums[i];
    for (var k = i * p.span; k < last; k++) {
        let count = counts[k];
        counts[k] = before;
        before += count;
    }
}
