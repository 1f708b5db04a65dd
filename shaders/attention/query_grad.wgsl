// Gradient of 32 queries a workgroup, which goes over the keys in tiles of 32: dq = sum over keys of g k, in their order.
//
// bindings of `attention/tiles.wgsl` and `attention/slope.wgsl`; then
// binding 6  dq  [planes, queries, features]
// then what `attention/row.wgsl` is asked about.
//
// Constants: COLUMNS, vectors of features of an invocation: ceil(features / 32).
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
    let left = plane * p.queries + first;
    let left_end = (plane + 1u) * p.queries;
    let right_end = (key_plane + 1u) * p.keys;
    var sums: array<vec4<f32>, 4u * COLUMNS>;
    let low = select(0u, first - p.left, first > p.left) / SIDE * SIDE;
    let high = min(min(first + SIDE + p.right, p.keys), length_of(plane));
    for (var key = low; key < high; key += SIDE) {
        let right = key_plane * p.keys + key;
        var scores = products(false, left, left_end, right, right_end, lane);
        var of_values = products(true, left, left_end, right, right_end, lane);
        for (var r = 0u; r < 4u; r++) {
            let query = min(first + 4u * y + r, p.queries - 1u);
            let row = row_of(plane, query);
            for (var c = 0u; c < 4u; c++) {
                let at = key + x + 8u * c;
                let own = min(at, p.keys - 1u);
                let both = slope(scores[r][c], of_values[r][c], row, plane * p.queries + query, own, at < p.keys);
                weights[place_of(4u * y + r, x + 8u * c)] = both.product;
            }
        }
        workgroupBarrier();
        for (var k = 0u; k < SIDE; k += 4u) {
            for (var c = 0u; c < COLUMNS; c++) {
                let four_lines = lines(1u, right + k, right_end, 4u * (x + 8u * c), p.features);
                for (var r = 0u; r < 4u; r++) {
                    let at_sum = r * COLUMNS + c;
                    sums[at_sum] = with_four(sums[at_sum], four_lines, weights_of(4u * y + r, k));
                }
            }
        }
    }
    for (var r = 0u; r < 4u; r++) {
        let query = first + 4u * y + r;
        for (var c = 0u; c < COLUMNS; c++) {
            for (var n = 0u; n < 4u; n++) {
                let column = 4u * (x + 8u * c) + n;
                if query < p.queries && column < p.features {
                    dq[(plane * p.queries + query) * p.features + column] = sums[r * COLUMNS + c][n];
                }
            }
        }
    }
}
