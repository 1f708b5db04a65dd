// One step of a recurrence, forward or backward: the product of four rows with the columns of UNITS units, then what a cell makes of it.
// `recurrent/wide.wgsl` does the same for software drivers.
//
// Asks for: alias V, the sums of a row and an invocation; const UNITS; `left_start(rows)`, `left(at)`, `right_start(unit)`,
// `columns(at, k)`, `finish(row, unit, sum)`, which does nothing for what is past the edge.
// Grid: ceil(rows / 4) * ceil(hidden / UNITS) invocations, folded. Loops: depth + 8 iterations.

fn work(i: u32) {
    let lanes = (p.hidden + UNITS - 1u) / UNITS;
    let tile = i / lanes;
    let unit = (i - tile * lanes) * UNITS;
    let row = tile * 4u;
    if row >= p.rows {
        return;
    }
    // Rows past the edge read the last one; their sums go nowhere.
    let left_at = left_start(min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u)));
    let right_at = right_start(unit);
    var sum0 = V();
    var sum1 = V();
    var sum2 = V();
    var sum3 = V();
    var k = 0u;
    loop {
        let factors = columns(right_at, k);
        sum0 += left(left_at.x + k) * factors;
        sum1 += left(left_at.y + k) * factors;
        sum2 += left(left_at.z + k) * factors;
        sum3 += left(left_at.w + k) * factors;
        k++;
        if k >= p.depth {
            break;
        }
    }
    let end = min(row + 4u, p.rows);
    var one = row;
    loop {
        let j = one - row;
        finish(one, unit, select(select(sum0, sum1, j == 1u), select(sum2, sum3, j == 3u), j > 1u));
        one++;
        if one >= end {
            break;
        }
    }
}
