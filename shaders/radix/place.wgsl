// Every key goes where its digit belongs, equal digits in their order, and its position in the row with it: an invocation a run.
//
// keys, moved  [rows, length]; moved and order_moved are written
// order_moved  [rows, length]
// counts       [rows, digits, runs], where the next key of each digit and run belongs
//
// Asks for: `position(at, j)`, where in its row the key at `at`, which is number j of its row, stood at first.
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
        let key = keys[at];
        let place = base + digit(key) * p.runs;
        let to = counts[place];
        counts[place] = to + 1u;
        moved[to] = key;
        order_moved[to] = position(at, j);
    }
}
