// How often each digit comes in each run of a row's keys: an invocation a run, which counts in places of its own. No atomics.
//
// counts  [rows, digits, runs] (written)
//
// Asks for: `key_at(at)`, of [rows, length].
// `radix/digit.wgsl` stands in front. Workgroups: ceil(rows * runs / 64). Iterations: digits + part.

fn work(i: u32) {
    if i >= p.rows * p.runs {
        return;
    }
    let row = i / p.runs;
    let run = i - row * p.runs;
    let base = row * p.digits * p.runs + run;
    for (var d = 0u; d < p.digits; d++) {
        counts[base + d * p.runs] = 0u;
    }
    let last = row * p.length + min((run + 1u) * p.part, p.length);
    for (var j = row * p.length + run * p.part; j < last; j++) {
        counts[base + digit(key_at(j)) * p.runs] += 1u;
    }
}
