// Every key goes where its digit belongs, equal digits in their order, and where in its row it stood at first with it: an invocation
// a run.
//
// moved   [rows, length] of (key, position) (written)
// counts  [rows, digits, runs], where the next key of each digit and run belongs
//
// Asks for: `pair_at(at, j)`, the key at `at`, which is number j of its row, and its position.
// `radix/digit.wgsl` stands in front. Workgroups: ceil(rows * runs / 64). Iterations: part.

fn work(i: u32) {
    if i >= p.rows * p.runs {
        return;
    }
    let row = i / p.runs;
    let run = i - row * p.runs;
    let base = row * p.digits * p.runs + run;
    let last = min((run + 1u) * p.part, p.length);
    for (var j = run * p.part; j < last; j++) {
        let at = row * p.length + j;
        let pair = pair_at(at, j);
        let place = base + digit(pair.x) * p.runs;
        let to = counts[place];
        counts[place] = to + 1u;
        moved[to] = pair;
    }
}
