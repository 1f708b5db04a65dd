// Second pass of argmax: result[o] = the winner among the winners of o's runs, in order. `argmax/argmax.wgsl` and `shared/each.wgsl` stand
// in front. Bindings: 1 partial [outputs, runs] (read), 2 result [outputs] (written).

fn work(i: u32) {
    if i >= p.outputs {
        return;
    }
    let base = kept_index(i);
    var best = partial[i * p.runs];
    var value = input[base + within_index(best)];
    for (var k = 1u; k < p.runs; k++) {
        let other = partial[i * p.runs + k];
        let x = input[base + within_index(other)];
        if wins(x, value) {
            best = other;
            value = x;
        }
    }
    result[i] = best;
}
