// Matrix product for adapters whose subgroups have exactly 8 lanes (lavapipe) and that have integers of 64 bits, of operands
// that are read eight elements at a time:
//   c[s, n0, n1, i, j] = epilogue(sum over k in part s of a[n0, n1, i, k] * b[n0, n1, k, j])
// A load of four 64-bit words costs a lane there about as much as one of four 32-bit words: beside `matmul/wide.wgsl` 1.1 to 1.33
// times as fast (nine shapes, in one process, by processor time). Tried: four of the eight k a round of an inner loop. Its text is three quarters, but
// what two loops assign LLVM compiles longer: 1.25 times the processor time of the transformer block's first step.
//
// A subgroup has a tile of 32 x 32: lane l the rows 4 l .. 4 l + 3, whose a is contiguous along k, and a part of b's tile,
// which it broadcasts: columns 4 l .. 4 l + 3 where b is contiguous along k, else all columns of one k.
// Products are added in ascending k.
//
// binding 0  a; strides, starts and depth are multiples of 8, a_column is 1
// binding 1  b, alike; one of b_row, b_column is 1, and where it is b_column, columns are a multiple of 8
// binding 2  c [splits, batch_outer, batch_inner, rows, columns], contiguous. With splits > 1 these are partial sums:
//            bind the identity epilogue and add the parts in ascending order with a second kernel.
//
// Sizes: `matmul/common.wgsl`, which goes in front. Constants (host prepends): B_ALONG_K   true where k is b's contiguous axis
// and `store(value, line, column)`, which has four elements of c's row at `line` (see `matmul/store_quads.wgsl`).
// Workgroup: (8, 1, 1), one subgroup. Grid: splits * batches * ceil(rows / 32) * ceil(columns / 32), folded freely.
// Loops: min(split_depth, depth) / 8 + 40 iterations an invocation.
// Part s covers k in [s * split_depth, min((s + 1) * split_depth, depth)); split_depth is a multiple of 8.
// Loops that surely have a round end where one does (see ARCHITECTURE.md).

@group(0) @binding(0) var<storage, read> a: array<vec4<u64>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<u64>>;

const TILE: u32 = 32u;

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

// Adds the products of eight columns, four k of which each lane holds, to their sums.
fn multiply(sum: ptr<function, array<vec4<f32>, 8>>, columns: vec4<f32>, rows: mat4x4<f32>) {
    let c0 = subgroupBroadcast(columns, 0u);
    (*sum)[0] = (*sum)[0] + c0.x * rows[0] + c0.y * rows[1] + c0.z * rows[2] + c0.w * rows[3];
    let c1 = subgroupBroadcast(columns, 1u);
    (*sum)[1] = (*sum)[1] + c1.x * rows[0] + c1.y * rows[1] + c1.z * rows[2] + c1.w * rows[3];
    let c2 = subgroupBroadcast(columns, 2u);
    (*sum)[2] = (*sum)[2] + c2.x * rows[0] + c2.y * rows[1] + c2.z * rows[2] + c2.w * rows[3];
    let c3 = subgroupBroadcast(columns, 3u);
    (*sum)[3] = (*sum)[3] + c3.x * rows[0] + c3.y * rows[1] + c3.z * rows[2] + c3.w * rows[3];
    let c4 = subgroupBroadcast(columns, 4u);
    (*sum)[4] = (*sum)[4] + c4.x * rows[0] + c4.y * rows[1] + c4.z * rows[2] + c4.w * rows[3];
    let c5 = subgroupBroadcast(columns, 5u);
    (*sum)[5] = (*sum)[5] + c5.x * rows[0] + c5.y * rows[1] + c5.z * rows[2] + c5.w * rows[3];
    let c6 = subgroupBroadcast(columns, 6u);
    (*sum)[6] = (*sum)[6] + c6.x * rows[0] + c6.y * rows[1] + c6.z * rows[2] + c6.w * rows[3];
    let c7 = subgroupBroadcast(columns, 7u);
    (*sum)[7] = (*sum)[7] + c7.x * rows[0] + c7.y * rows[1] + c7.z * rows[2] + c7.w * rows[3];
}

// Adds the products of one column, a k of which each lane holds.
fn multiply_one(sum: vec4<f32>, column: f32, low: mat4x4<f32>, high: mat4x4<f32>) -> vec4<f32> {
    let first = sum + subgroupBroadcast(column, 0u) * low[0] + subgroupBroadcast(column, 1u) * low[1]
        + subgroupBroadcast(column, 2u) * low[2] + subgroupBroadcast(column, 3u) * low[3];
    return first + subgroupBroadcast(column, 4u) * high[0] + subgroupBroadcast(column, 5u) * high[1]
        + subgroupBroadcast(column, 6u) * high[2] + subgroupBroadcast(column, 7u) * high[3];
}

fn shift(sum: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 7u; i++) {
        (*sum)[i] = (*sum)[i + 1u];
    }
}

@compute @workgroup_size(8, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let group_index = group.x + group.y * group_count.x;
    let column_tiles = (p.columns + TILE - 1u) / TILE;
    let row_tiles = (p.rows + TILE - 1u) / TILE;
    let batches = p.batch_outer * p.batch_inner;
    let tile = group_index / row_tiles;
    let plane = tile / column_tiles;
    let split = plane / batches;
    if split >= p.splits {
        return;
    }
    let row = (group_index - tile * row_tiles) * TILE + local.x * 4u;
    let column = (tile - plane * column_tiles) * TILE;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    let count = min(p.split_depth, p.depth - begin);

    // Rows and columns past the edge read the last ones; their sums are never stored. All places count eights.
    let a_base = (p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + begin) / 8u;
    let a_at = a_base + min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u)) * (p.a_row / 8u);
    let b_base = (p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + begin * p.b_row) / 8u;
    var b_at: vec4<u32>;
    if B_ALONG_K {
        let own = column + local.x * 4u;
        b_at = b_base + min(own + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.columns - 1u)) * (p.b_column / 8u);
    } else {
        let eights = min(column / 8u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.columns / 8u - 1u));
        b_at = b_base + eights + local.x * (p.b_row / 8u);
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
            sum0[0] = multiply_one(sum0[0], b0.low.x, low, high);
            sum1[0] = multiply_one(sum1[0], b0.low.y, low, high);
            sum2[0] = multiply_one(sum2[0], b0.low.z, low, high);
            sum3[0] = multiply_one(sum3[0], b0.low.w, low, high);
            sum0[1] = multiply_one(sum0[1], b0.high.x, low, high);
            sum1[1] = multiply_one(sum1[1], b0.high.y, low, high);
            sum2[1] = multiply_one(sum2[1], b0.high.z, low, high);
            sum3[1] = multiply_one(sum3[1], b0.high.w, low, high);
            sum0[2] = multiply_one(sum0[2], b1.low.x, low, high);
            sum1[2] = multiply_one(sum1[2], b1.low.y, low, high);
            sum2[2] = multiply_one(sum2[2], b1.low.z, low, high);
            sum3[2] = multiply_one(sum3[2], b1.low.w, low, high);
            sum0[3] = multiply_one(sum0[3], b1.high.x, low, high);
            sum1[3] = multiply_one(sum1[3], b1.high.y, low, high);
            sum2[3] = multiply_one(sum2[3], b1.high.z, low, high);
            sum3[3] = multiply_one(sum3[3], b1.high.w, low, high);
            sum0[4] = multiply_one(sum0[4], b2.low.x, low, high);
            sum1[4] = multiply_one(sum1[4], b2.low.y, low, high);
            sum2[4] = multiply_one(sum2[4], b2.low.z, low, high);
            sum3[4] = multiply_one(sum3[4], b2.low.w, low, high);
            sum0[5] = multiply_one(sum0[5], b2.high.x, low, high);
            sum1[5] = multiply_one(sum1[5], b2.high.y, low, high);
            sum2[5] = multiply_one(sum2[5], b2.high.z, low, high);
            sum3[5] = multiply_one(sum3[5], b2.high.w, low, high);
            sum0[6] = multiply_one(sum0[6], b3.low.x, low, high);
            sum1[6] = multiply_one(sum1[6], b3.low.y, low, high);
            sum2[6] = multiply_one(sum2[6], b3.low.z, low, high);
            sum3[6] = multiply_one(sum3[6], b3.low.w, low, high);
            sum0[7] = multiply_one(sum0[7], b3.high.x, low, high);
            sum1[7] = multiply_one(sum1[7], b3.high.y, low, high);
            sum2[7] = multiply_one(sum2[7], b3.high.z, low, high);
            sum3[7] = multiply_one(sum3[7], b3.high.w, low, high);
        }
        k++;
        if k >= count / 8u {
            break;
        }
    }

    // Four columns a turn, then the others move up: one call of `store` instead of 32. The rows' end is no constant, for drivers
    // would write a loop over four rows out.
    let row_end = min(row + 4u, p.rows);
    let column_end = min(column + TILE, p.columns);
    var four = column;
    loop {
        let own = transpose(mat4x4<f32>(sum0[0], sum1[0], sum2[0], sum3[0]));
        var store_row = row;
        loop {
            let i = store_row - row;
            let value = select(select(own[0], own[1], i == 1u), select(own[2], own[3], i == 3u), i > 1u);
            // A lane may have no row at all.
            if store_row < p.rows {
                store(value, (plane * p.rows + store_row) * p.columns, four);
            }
            store_row++;
            if store_row >= row_end {
                break;
            }
        }
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
