// For software drivers alone, whose subgroups have exactly 8 lanes (lavapipe): the product of `matmul/common.wgsl`,
// with operands that are read four elements at a time.
//
// A subgroup has a tile of 32 x 32: lane l the columns 4 l .. 4 l + 3, and of a the rows 4 l .. 4 l + 3, which it
// broadcasts. Either operand may be contiguous along k or along its other axis: four loads bring 4 x 4 elements both ways.
//
// a: strides, starts and the length of the contiguous axis are multiples of 4, one of a_row, a_column is 1
// b: alike
//
// Beside it: `matmul/fours.wgsl`, `shared/team.wgsl`, and
//   A_ALONG_K, B_ALONG_K: bool       k is the contiguous axis
//   fn store(value, line, column)    has four elements of c's row at `line` (see `matmul/store_quads.wgsl`)
// Grid: splits * batches * ceil(rows / 32) * ceil(columns / 32), folded freely.
// Loops: min(split_depth, depth) / 4 + 47 iterations an invocation.
// split_depth is a multiple of 4.
// Loops that surely have a round end where one does.

fn a_four(at: u32) -> vec4<f32> {
    let four = a[at];
    return vec4<f32>(from_a(four.x), from_a(four.y), from_a(four.z), from_a(four.w));
}

fn b_four(at: u32) -> vec4<f32> {
    let four = b[at];
    return vec4<f32>(from_b(four.x), from_b(four.y), from_b(four.z), from_b(four.w));
}

// Adds the products of eight rows, a k of which each lane holds, to their sums.
fn add_one(sum: ptr<function, array<vec4<f32>, 8>>, row: f32, columns: vec4<f32>) {
    (*sum)[0] = (*sum)[0] + subgroupBroadcast(row, 0u) * columns;
    (*sum)[1] = (*sum)[1] + subgroupBroadcast(row, 1u) * columns;
    (*sum)[2] = (*sum)[2] + subgroupBroadcast(row, 2u) * columns;
    (*sum)[3] = (*sum)[3] + subgroupBroadcast(row, 3u) * columns;
    (*sum)[4] = (*sum)[4] + subgroupBroadcast(row, 4u) * columns;
    (*sum)[5] = (*sum)[5] + subgroupBroadcast(row, 5u) * columns;
    (*sum)[6] = (*sum)[6] + subgroupBroadcast(row, 6u) * columns;
    (*sum)[7] = (*sum)[7] + subgroupBroadcast(row, 7u) * columns;
}

// Four k of this lane's rows, a row a column of the matrix.
fn a_fours(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    if A_ALONG_K {
        let place = at + k / 4u;
        return mat4x4<f32>(a_four(place.x), a_four(place.y), a_four(place.z), a_four(place.w));
    }
    let step = p.a_column / 4u;
    let place = at.x + k * step;
    return transpose(mat4x4<f32>(a_four(place), a_four(place + step), a_four(place + 2u * step), a_four(place + 3u * step)));
}

// Four k of this lane's columns, a k a column of the matrix.
fn b_fours(at: vec4<u32>, k: u32) -> mat4x4<f32> {
    if B_ALONG_K {
        let place = at + k / 4u;
        return transpose(mat4x4<f32>(b_four(place.x), b_four(place.y), b_four(place.z), b_four(place.w)));
    }
    let step = p.b_row / 4u;
    let place = at.x + k * step;
    return mat4x4<f32>(b_four(place), b_four(place + step), b_four(place + 2u * step), b_four(place + 3u * step));
}

fn work(group_index: u32, lane: u32) {
    let tile = tile_of(group_index, TILE, TILE);
    let part = part_of(tile.plane);
    if part.is_outside {
        return;
    }
    let row = tile.row;
    let column = tile.column + lane * 4u;

    // Rows and columns past the edge read the last ones; their sums are never stored. All places count fours.
    let a_base = part.a / 4u;
    let b_base = part.b / 4u;
    let own = row + lane * 4u;
    var a_at: vec4<u32>;
    var b_at: vec4<u32>;
    if A_ALONG_K {
        a_at = a_base + min(own + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u)) * (p.a_row / 4u);
    } else {
        a_at = vec4<u32>(a_base + min(own, p.rows - 4u) / 4u);
    }
    if B_ALONG_K {
        b_at = b_base + min(column + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.columns - 1u)) * (p.b_column / 4u);
    } else {
        b_at = vec4<u32>(b_base + min(column, p.columns - 4u) / 4u);
    }

    // Row 4 l + i is element l of sum number i.
    var sum0: array<vec4<f32>, 8>;
    var sum1: array<vec4<f32>, 8>;
    var sum2: array<vec4<f32>, 8>;
    var sum3: array<vec4<f32>, 8>;
    // Nothing here is assigned on two ways: what is, a driver keeps in memory, and takes long to compile.
    let whole = part.count - part.count % 4u;
    for (var k = 0u; k < whole; k += 4u) {
        let rows = a_fours(a_at, k);
        let columns = b_fours(b_at, k);
        multiply(&sum0, rows[0], columns);
        multiply(&sum1, rows[1], columns);
        multiply(&sum2, rows[2], columns);
        multiply(&sum3, rows[3], columns);
    }
    // Some k may be left only where neither is contiguous along it.
    if !A_ALONG_K && !B_ALONG_K {
        for (var k = whole; k < part.count; k++) {
            let rows = a_four(a_at.x + k * (p.a_column / 4u));
            let columns = b_four(b_at.x + k * (p.b_row / 4u));
            add_one(&sum0, rows.x, columns);
            add_one(&sum1, rows.y, columns);
            add_one(&sum2, rows.z, columns);
            add_one(&sum3, rows.w, columns);
        }
    }

    // Four rows a turn, then the others move up: one call of `store` instead of 32.
    let row_end = min(row + TILE, p.rows);
    var four = row;
    loop {
        let rows = mat4x4<f32>(sum0[0], sum1[0], sum2[0], sum3[0]);
        store_rows(rows, tile.plane, four, min(four + 4u, row_end), column);
        shift(&sum0);
        shift(&sum1);
        shift(&sum2);
        shift(&sum3);
        four += 4u;
        if four >= row_end {
            break;
        }
    }
}
