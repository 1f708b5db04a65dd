// Each sum of a span becomes the sum of the spans before it: one invocation.
//
// sums  [spans]
//
// Workgroups: 1. Iterations: spans.

fn work(i: u32) {
    if i > 0u {
        return;
    }
    var before = 0u;
    for (var k = 0u; k < p.spans; k++) {
        let sum = sums[k];
        sums[k] = before;
        before += sum;
    }
}
