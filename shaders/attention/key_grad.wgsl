// Gradients of 32 keys and their values a workgroup, which goes over the queries in tiles of 32, those of all heads that
// share the keys: dk = sum over queries of g q, dv = sum of w dy, in their order.
//
// bindings of `attention/tiles.wgsl` and `attention/slope.wgsl`; then
// binding 6  dk  [planes / groups, keys, features]
// binding 7  dv  [planes / groups, keys, values]
// then what `attention/row.wgsl` is asked about.
//
// Constants: COLUMNS, VALUE_COLUMNS, vectors of features and values of an invocation: ceil(features / 32), ceil(values / 32).
// Workgroups: planes / groups * ceil(keys / 32). Loops: see the op.

var<workgroup> slopes: array<f32, 1056>;

fn work(group_index: u32, lane: u32) {
    let tiles = (p.keys + SIDE - 1u) / SIDE;
    let key_plane = group_index / tiles;
    if key_plane * p.groups >= p.planes {
        return;
    }
    let first = (group_index - key_plane * tiles) * SIDE;
    let y = lane / 8u;
    let x = lane % 8u;
    let right = key_plane * p.keys + first;
    let right_end = (key_plane + 1u) * p.keys;
    var key_sums: array<vec4<f32>, 4u * COLUMNS>;
    var value_sums: array<vec4<f32>, 4u * VALUE_COLUMNS>;
    // Queries that see any of the keys.
    let low = select(0u, first - p.right, first > p.right) / SIDE * SIDE;
    let high = min(first + SIDE + p.left, p.queries);
    for (var group = 0u; group < p.groups; group++) {
        let plane = key_plane * p.groups + group;
        let left_end = (plane + 1u) * p.queries;
        for (var start = low; start < high; start += SIDE) {
            let left = plane * p.queries + start;
            var scores = products(false, left, left_end, right, right_end, lane);
            var of_values = products(true, left, left_end, right, right_end, lane);
            for (var r = 0u; r < 4u; r++) {
                let at = start + 4u * y + r;
                let query = min(at, p.queries - 1u);
                let row = row_of(plane, query);
                for (var c = 0u; c < 4u; c++) {
                    let key = first + x + 8u * c;
                    let own = min(key, p.keys - 1u);
                    let is_there = key < p.keys && at < p.queries;
                    let both = slope(scores[r][c], of_values[r][c], row, plane * p.queries + query, own, is_there);
                    slopes[place_of(4u * y + r, x + 8u * c)] = both.product;
                    weights[place_of(4u * y + r, x + 8u * c)] = both.weight;
                }
            }
            workgroupBarrier();
            for (var q = 0u; q < SIDE; q += 4u) {
                for (var c = 0u; c < COLUMNS; c++) {
                    let four_lines = lines(0u, left + q, left_end, 4u * (x + 8u * c), p.features);
                    for (var r = 0u; r < 4u; r++) {
                        let at = place_of(q, 4u * y + r);
                        let four_slopes =
                            vec4<f32>(slopes[at], slopes[at + WIDTH], slopes[at + 2u * WIDTH], slopes[at + 3u * WIDTH]);
                        let at_sum = r * COLUMNS + c;
                        key_sums[at_sum] = with_four(key_sums[at_sum], four_lines, four_slopes);
                    }
                }
                for (var c = 0u; c < VALUE_COLUMNS; c++) {
                    let four_lines = lines(3u, left + q, left_end, 4u * (x + 8u * c), p.values);
                    for (var r = 0u; r < 4u; r++) {
                        let at = place_of(q, 4u * y + r);
                        let four_weights =
                            vec4<f32>(weights[at], weights[at + WIDTH], weights[at + 2u * WIDTH], weights[at + 3u * WIDTH]);
                        let at_sum = r * VALUE_COLUMNS + c;
                        value_sums[at_sum] = with_four(value_sums[at_sum], four_lines, four_weights);
                    }
                }
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let key = first + 4u * y + r;
        let line = key_plane * p.keys + key;
        for (var n = 0u; n < 4u; n++) {
            for (var c = 0u; c < COLUMNS; c++) {
                let column = 4u * (x + 8u * c) + n;
                if key < p.keys && column < p.features {
                    dk[line * p.features + column] = key_sums[r * COLUMNS + c][n];
                }
            }
            for (var c = 0u; c < VALUE_COLUMNS; c++) {
                let column = 4u * (x + 8u * c) + n;
                if key < p.keys && column < p.values {
                    dv[line * p.values + column] = value_sums[r * VALUE_COLUMNS + c][n];
                }
            }
        }
    }
}
