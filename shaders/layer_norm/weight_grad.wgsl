// Gradients of the weight and the bias of normalised rows: sum over the rows of dy h and of dy, h = (x - mean) r.
//
// An invocation takes COLUMNS values side by side of `rows_per_part` rows, in order; with several parts, `shared/split_sum.wgsl`
// adds these in order. Columns beyond the last are read again and not written.
//
// Operands: dy [rows, n] (through prologue), x, statistics [rows, 4] (first element, r, mean less it), result [parts, 2, n].
// Lengths are in values of LANES elements.
// Workgroups: ceil(parts * ceil(columns / COLUMNS) / 64). Iterations: rows_per_part.

fn work(i: u32) {
    let tiles = (p.columns + COLUMNS - 1u) / COLUMNS;
    if i >= p.parts * tiles {
        return;
    }
    let part = i / tiles;
    let tile = i - part * tiles;
    var weight: array<F, COLUMNS>;
    var bias: array<F, COLUMNS>;
    let end = min((part + 1u) * p.rows_per_part, p.rows);
    for (var row = part * p.rows_per_part; row < end; row++) {
        let moments = statistics[row];
        for (var c = 0u; c < COLUMNS; c++) {
            let at = row * p.columns + min(tile + c * tiles, p.columns - 1u);
            let grad = prologue(at * LANES);
            weight[c] += grad * (((input[at] - moments.x) - moments.z) * moments.y);
            bias[c] += grad;
        }
    }
    for (var c = 0u; c < COLUMNS; c++) {
        let column = tile + c * tiles;
        if column < p.columns {
            result[part * 2u * p.columns + column] = weight[c];
            result[(part * 2u + 1u) * p.columns + column] = bias[c];
        }
    }
}
