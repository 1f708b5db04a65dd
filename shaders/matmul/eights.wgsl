// For software drivers alone, whose subgroups have exactly 8 lanes (lavapipe) and that have integers of 64 bits: the product of
// `matmul/common.wgsl`, with operands that are read eight elements at a time.
//
// A subgroup has a tile of 32 x 32: lane l the rows 4 l .. 4 l + 3, whose a is contiguous along k, and a part of b's tile,
// which it broadcasts: columns 4 l .. 4 l + 3 where b is contiguous along k, else all columns of one k.
//
// a: strides, starts and depth are multiples of 8, a_column is 1
// b: alike; one of b_row, b_column is 1, and where it is b_column, columns are a multiple of 8
//
// Beside it: `matmul/fours.wgsl`, `shared/team.wgsl`, and
//   B_ALONG_K: bool                  k is b's contiguous axis
//   fn store(value, line, column)    has four elements of c's row at `line` (see `matmul/store_quads.wgsl`)
// Grid: splits * batches * ceil(rows / 32) * ceil(columns / 32), folded freely.
// Loops: min(split_depth, depth) / 8 + 40 iterations an invocation.
// split_depth is a multiple of 8.
// Loops that surely have a round end where one does.

// Eight neighbouring elements.
struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn eight(words: vec4<u64>) -> Eight {
    let even = bitcast<vec4<f32>>(vec4<u32>(words));
    let odd = bitcast<vec4<f32>>(vec4<u32>(words >> vec4<u32>(32u)));
    return Eight(vec4<f32>(even.x, odd.x, even.y, odd.y), vec4<f32>(even.z, odd.z, even.w, odd.w));
}

// Adds the products of one column, a k of which each lane holds.
fn multiply_one(sum: vec4<f32>, column: f32, low: mat4x4<f32>, high: mat4x4<f32>) -> vec4<f32> {
    let first = sum + subgroupBroadcast(column, 0u) * low[0] + subgroupBroadcast(column, 1u) * low[1]
        + subgroupBroadcast(column, 2u) * low[2] + subgroupBroadcast(column, 3u) * low[3];
    return first + subgroupBroadcast(column, 4u) * high[0] + subgroupBroadcast(column, 5u) * high[1]
        + subgroupBroadcast(column, 6u) * high[2] + subgroupBroadcast(column, 7u) * high[3];
}

// The same of four neighbouring columns, those of sum j.
fn multiply_four(
    sum0: ptr<function, array<vec4<f32>, 8>>,
    sum1: ptr<function, array<vec4<f32>, 8>>,
    sum2: ptr<function, array<vec4<f32>, 8>>,
    sum3: ptr<function, array<vec4<f32>, 8>>,
    j: u32,
    columns: vec4<f32>,
    low: mat4x4<f32>,
    high: mat4x4<f32>,
) {
    (*sum0)[j] = multiply_one((*sum0)[j], columns.x, low, high);
    (*sum1)[j] = multiply_one((*sum1)[j], columns.y, low, high);
    (*sum2)[j] = multiply_one((*sum2)[j], columns.z, low, high);
    (*sum3)[j] = multiply_one((*sum3)[j], columns.w, low, high);
}

fn work(group_index: u32, lane: u32) {
    let tile = tile_of(group_index, TILE, TILE);
    let part = part_of(tile.plane);
    if part.is_outside {
        return;
    }
    let row = tile.row + lane * 4u;
    let column = tile.column;

    // Rows and columns past the edge read the last ones; their sums are never stored. All places count eights.
    let a_at = part.a / 8u + min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u)) * (p.a_row / 8u);
    let b_base = part.b / 8u;
    var b_at: vec4<u32>;
    if B_ALONG_K {
        let own = column + lane * 4u;
        b_at = b_base + min(own + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.columns - 1u)) * (p.b_column / 8u);
    } else {
        let eights = min(column / 8u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.columns / 8u - 1u));
        b_at = b_base + eights + lane * (p.b_row / 8u);
    }
    let b_step = select(p.b_row, 1u, B_ALONG_K);

    // Column 4 i + j is element i of sum number j.
    var sum0: array<vec4<f32>, 8>;
    var sum1: array<vec4<f32>, 8>;
    var sum2: array<vec4<f32>, 8>;
    var sum3: array<vec4<f32>, 8>;
    var k = 0u;
    loop {
        let a0 = eight(a[a_at.x + k]);
        let a1 = eight(a[a_at.y + k]);
        let a2 = eight(a[a_at.z + k]);
        let a3 = eight(a[a_at.w + k]);
        let low = transpose(mat4x4<f32>(a0.low, a1.low, a2.low, a3.low));
        let high = transpose(mat4x4<f32>(a0.high, a1.high, a2.high, a3.high));
        let b0 = eight(b[b_at.x + k * b_step]);
        let b1 = eight(b[b_at.y + k * b_step]);
        let b2 = eight(b[b_at.z + k * b_step]);
        let b3 = eight(b[b_at.w + k * b_step]);
        if B_ALONG_K {
            multiply(&sum0, b0.low, low);
            multiply(&sum1, b1.low, low);
            multiply(&sum2, b2.low, low);
            multiply(&sum3, b3.low, low);
            multiply(&sum0, b0.high, high);
            multiply(&sum1, b1.high, high);
            multiply(&sum2, b2.high, high);
            multiply(&sum3, b3.high, high);
        } else {
            multiply_four(&sum0, &sum1, &sum2, &sum3, 0u, b0.low, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 1u, b0.high, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 2u, b1.low, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 3u, b1.high, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 4u, b2.low, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 5u, b2.high, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 6u, b3.low, low, high);
            multiply_four(&sum0, &sum1, &sum2, &sum3, 7u, b3.high, low, high);
        }
        k++;
        if k >= part.count / 8u {
            break;
        }
    }

    // Four columns a turn, then the others move up: one call of `store` instead of 32.
    let row_end = min(row + 4u, p.rows);
    let column_end = min(column + TILE, p.columns);
    var four = column;
    loop {
        let rows = transpose(mat4x4<f32>(sum0[0], sum1[0], sum2[0], sum3[0]));
        store_rows(rows, tile.plane, row, row_end, four);
        shift(&sum0);
        shift(&sum1);
        shift(&sum2);
        shift(&sum3);
        four += 4u;
        if four >= column_end {
            break;
        }
    }
}
