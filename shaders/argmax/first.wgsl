// First pass of argmax: result[o, run] = r of the largest of elements run * p.run, .. of output o, the first of equal ones.
// `argmax/argmax.wgsl` and `shared/each.wgsl` stand in front. binding 1  result [outputs, runs] (written)

fn work(i: u32) {
    if i >= p.outputs * p.runs {
        return;
    }
    let o = i / p.runs;
    let base = kept_index(o);
    let first = (i - o * p.runs) * p.run;
    let last = min(first + p.run, p.reduced);
    var best = first;
    var value = input[base + within_index(first)];
    for (var r = first + 1u; r < last; r++) {
        let x = input[base + within_index(r)];
        if wins(x, value) {
            best = r;
            value = x;
        }
    }
    result[i] = best;
}
