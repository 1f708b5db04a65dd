// Attention of 32 queries a workgroup, which goes over the keys in tiles of 32 (Dao 2023):
//   top' = max(top, scores), w = exp(score - top'), sums and results so far times exp(top - top')
//
// bindings of `attention/tiles.wgsl`, without dy; then
// binding 3  result  [planes, queries, values]
// binding 4  lse     [planes, queries], log of the sum of a row's exponentials; 0 where it sees no key
// then what `attention/row.wgsl` is asked about.
//
// Constants: COLUMNS, vectors of values of an invocation: ceil(values / 32).
// Workgroups: planes * ceil(queries / 32). Loops: see the op.

fn work(group_index: u32, lane: u32) {
    let tiles = (p.queries + SIDE - 1u) / SIDE;
    let plane = group_index / tiles;
    if plane >= p.planes {
        return;
    }
    let first = (group_index - plane * tiles) * SIDE;
    let key_plane = plane / p.groups;
    let y = lane / 8u;
    let x = lane % 8u;
    var rows: array<Row, 4>;
    var top: array<f32, 4>;
    var sum: array<f32, 4>;
    var bad: array<f32, 4>;
    var result_of: array<vec4<f32>, 4u * COLUMNS>;
    for (var r = 0u; r < 4u; r++) {
        rows[r] = row_of(plane, min(first + 4u * y + r, p.queries - 1u));
        top[r] = LEAST;
    }
    let low = select(0u, first - p.left, first > p.left) / SIDE * SIDE;
    let high = min(min(first + SIDE + p.right, p.keys), length_of(plane));
    for (var key = low; key < high; key += SIDE) {
        var scores = products(
            false,
            plane * p.queries + first,
            (plane + 1u) * p.queries,
            key_plane * p.keys + key,
            (key_plane + 1u) * p.keys,
            lane,
        );
        for (var r = 0u; r < 4u; r++) {
            var most = LEAST;
            for (var c = 0u; c < 4u; c++) {
                let at = key + x + 8u * c;
                let own = min(at, p.keys - 1u);
                let counts = seen(rows[r], own) && at < p.keys;
                most = max(most, select(LEAST, score(scores[r][c], rows[r], own), counts));
            }
            parts[(4u * y + r) * 8u + x] = most;
        }
        workgroupBarrier();
        for (var r = 0u; r < 4u; r++) {
            var highest = top[r];
            for (var n = 0u; n < 8u; n++) {
                highest = max(highest, parts[(4u * y + r) * 8u + n]);
            }
            let shrink = exp_down(top[r] - highest);
            top[r] = highest;
            sum[r] *= shrink;
            for (var c = 0u; c < COLUMNS; c++) {
                result_of[r * COLUMNS + c] *= shrink;
            }
            for (var c = 0u; c < 4u; c++) {
                let at = key + x + 8u * c;
                let own = min(at, p.keys - 1u);
                let counts = seen(rows[r], own) && at < p.keys;
                let value = score(scores[r][c], rows[r], own);
                let weight = select(0.0, exp_down(value - highest), counts);
                bad[r] = select(bad[r], 1.0, counts && is_bad(value));
                sum[r] += weight;
                weights[place_of(4u * y + r, x + 8u * c)] = weight * factor(rows[r], own);
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < SIDE; k += 4u) {
            let line = key_plane * p.keys + key + k;
            for (var c = 0u; c < COLUMNS; c++) {
                let four_lines = lines(2u, line, (key_plane + 1u) * p.keys, 4u * (x + 8u * c), p.values);
                for (var r = 0u; r < 4u; r++) {
                    let at_sum = r * COLUMNS + c;
                    result_of[at_sum] = with_four(result_of[at_sum], four_lines, weights_of(4u * y + r, k));
                }
            }
        }
    }
    // What the eight invocations of a row have, together.
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) {
        parts[(4u * y + r) * 8u + x] = select(sum[r], nan(), bad[r] > 0.0);
    }
    workgroupBarrier();
    for (var r = 0u; r < 4u; r++) {
        var whole = 0.0;
        for (var n = 0u; n < 8u; n++) {
            whole += parts[(4u * y + r) * 8u + n];
        }
        let query = first + 4u * y + r;
        if query >= p.queries {
            continue;
        }
        let line = plane * p.queries + query;
        let is_blind = whole == 0.0;
        if x == 0u {
            // NaN stays NaN: the logarithm is of a number that has it.
            lse[line] = select(top[r] + log_full(whole), 0.0, is_blind);
        }
        for (var c = 0u; c < COLUMNS; c++) {
            let value = select(result_of[r * COLUMNS + c] / whole, vec4<f32>(), is_blind);
            for (var n = 0u; n < 4u; n++) {
                let column = 4u * (x + 8u * c) + n;
                if column < p.values {
                    result[line * p.values + column] = value[n];
                }
            }
        }
    }
}
