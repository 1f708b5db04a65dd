// For software drivers alone, to which a load costs much (docs/software-drivers.md): one workgroup, which is one subgroup, several rows, so
// that what they read of a column is read once for all.
//
// Rows are folded one after the other; lane q keeps the numbers of row q of each WIDTH, and a shuffle brings them to all. Then
// the workgroup walks over the columns and writes every row's value there. Columns may be summed over the rows on the way.
//
// Asks for, instead of what `rows/loop.wgsl` lists, `rows/block_values.wgsl` or `rows/block_pairs.wgsl`, which say in HALVES
// whether a place j holds a pair of values (see `Kernel::pairs`; then `half` is 0 or 1), and of the op
//   alias Column   what is read of a column, by column(j, half)
//   alias Item     what is read of an element, by item(row, j, half)
//   begin(row)     an F that is read once a row to be folded
//   alias State    start, take(state, item, column, begun), join, close(state)
//   alias Kept     keep(state, begun), choose, kept_of; value(kept, item, column)
//   alias Sums     no_sums, add(sums, kept, item), put_sums(workgroup, j, sums of both halves)
// Lengths and places are those of pairs where HALVES is 2.
// Workgroups: ceil(rows / p.block), p.block being at most BLOCKS * WIDTH.
// Iterations: p.block (2 ceil(length / WIDTH) + 4).

fn work(part: u32, lane: u32) {
    let first = part * p.block;
    if first >= p.rows {
        return;
    }
    let count = min(p.block, p.rows - first);
    var kept: array<Kept, BLOCKS>;
    for (var q = 0u; q < count; q++) {
        let begun = begin(first + q);
        var state = start();
        for (var j = lane; j < p.length; j += WIDTH) {
            state = take(state, item(first + q, j, 0u), column(j, 0u), begun);
            if HALVES == 2u {
                state = take(state, item(first + q, j, 1u), column(j, 1u), begun);
            }
        }
        let numbers = keep(close(join_lanes(state, lane)), begun);
        let block = q / WIDTH;
        kept[block] = choose(kept[block], numbers, lane == q % WIDTH);
    }
    // All lanes stay, for shuffles: those beyond the row read its last value again and write nothing.
    for (var column_of_first = 0u; column_of_first < p.length; column_of_first += WIDTH) {
        let is_inside = column_of_first + lane < p.length;
        let j = min(column_of_first + lane, p.length - 1u);
        let low = column(j, 0u);
        let high = column(j, HALVES - 1u);
        var sums = no_sums();
        var high_sums = no_sums();
        for (var block = 0u; block * WIDTH < count; block++) {
            let own = kept[block];
            let end = min(WIDTH, count - block * WIDTH);
            for (var q = 0u; q < end; q++) {
                let numbers = kept_of(own, q);
                let row = first + block * WIDTH + q;
                let x = item(row, j, 0u);
                let high_x = item(row, j, HALVES - 1u);
                let at = place(row, j);
                if is_inside {
                    let first_half = finish(value(numbers, x, low), at, 0u);
                    if HALVES == 2u {
                        put(at, first_half, finish(value(numbers, high_x, high), at, 1u));
                    } else {
                        put(at, first_half, first_half);
                    }
                }
                sums = add(sums, numbers, x);
                high_sums = add(high_sums, numbers, high_x);
            }
        }
        if is_inside {
            put_sums(part, j, sums, high_sums);
        }
    }
}
