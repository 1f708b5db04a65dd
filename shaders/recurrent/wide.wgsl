// For software drivers alone, whose subgroups have exactly 8 lanes (lavapipe): the product of a step, four elements a load. It is
// `recurrent/alone.wgsl` with a tile of 32 rows by 8 UNITS units in the registers of a subgroup, as `matmul/wide.wgsl` has it.
//
// Lane l has the columns of units UNITS l .. UNITS l + UNITS - 1, and of the left operand the rows 4 l .. 4 l + 3, which it broadcasts.
// Asks for: alias V, the sums of a row and a lane; alias Across, four k of a lane's columns; const UNITS; `left_start(rows)`, `left(at)`,
// `right_start(unit)`, `across(at, k)`, `finish(row, unit, sum)`. All places count fours along k.
// Grid: ceil(rows / 32) * ceil(hidden / (8 UNITS)), folded. Loops: depth / 4 + 64 iterations.

const GROUP: u32 = 8u;
const TILE: u32 = 32u;

// Adds the products of eight rows, four k of which each lane holds, to their sums.
fn multiply(sum: ptr<function, array<V, 8>>, rows: vec4<f32>, columns: Across) {
    let r0 = subgroupBroadcast(rows, 0u);
    (*sum)[0] = (*sum)[0] + r0.x * columns[0] + r0.y * columns[1] + r0.z * columns[2] + r0.w * columns[3];
    let r1 = subgroupBroadcast(rows, 1u);
    (*sum)[1] = (*sum)[1] + r1.x * columns[0] + r1.y * columns[1] + r1.z * columns[2] + r1.w * columns[3];
    let r2 = subgroupBroadcast(rows, 2u);
    (*sum)[2] = (*sum)[2] + r2.x * columns[0] + r2.y * columns[1] + r2.z * columns[2] + r2.w * columns[3];
    let r3 = subgroupBroadcast(rows, 3u);
    (*sum)[3] = (*sum)[3] + r3.x * columns[0] + r3.y * columns[1] + r3.z * columns[2] + r3.w * columns[3];
    let r4 = subgroupBroadcast(rows, 4u);
    (*sum)[4] = (*sum)[4] + r4.x * columns[0] + r4.y * columns[1] + r4.z * columns[2] + r4.w * columns[3];
    let r5 = subgroupBroadcast(rows, 5u);
    (*sum)[5] = (*sum)[5] + r5.x * columns[0] + r5.y * columns[1] + r5.z * columns[2] + r5.w * columns[3];
    let r6 = subgroupBroadcast(rows, 6u);
    (*sum)[6] = (*sum)[6] + r6.x * columns[0] + r6.y * columns[1] + r6.z * columns[2] + r6.w * columns[3];
    let r7 = subgroupBroadcast(rows, 7u);
    (*sum)[7] = (*sum)[7] + r7.x * columns[0] + r7.y * columns[1] + r7.z * columns[2] + r7.w * columns[3];
}

// The sums without the first, which is done.
fn shift(sum: ptr<function, array<V, 8>>) {
    for (var i = 0u; i < 7u; i++) {
        (*sum)[i] = (*sum)[i + 1u];
    }
}

fn work(group_index: u32, lane: u32) {
    let width = GROUP * UNITS;
    let tiles = (p.hidden + width - 1u) / width;
    let tile = group_index / tiles;
    let unit = (group_index - tile * tiles) * width + lane * UNITS;
    let row = tile * TILE;
    if row >= p.rows {
        return;
    }
    // Rows past the edge read the last one; their sums go nowhere.
    let left_at = left_start(min(row + lane * 4u + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(p.rows - 1u)));
    let right_at = right_start(unit);
    // Row 4 l + i is element l of sum number i.
    var sum0: array<V, 8>;
    var sum1: array<V, 8>;
    var sum2: array<V, 8>;
    var sum3: array<V, 8>;
    var k = 0u;
    loop {
        let columns = across(right_at, k);
        multiply(&sum0, left(left_at.x + k), columns);
        multiply(&sum1, left(left_at.y + k), columns);
        multiply(&sum2, left(left_at.z + k), columns);
        multiply(&sum3, left(left_at.w + k), columns);
        k++;
        if k >= p.depth / 4u {
            break;
        }
    }
    // Four rows a turn, then the others move up: one call of `finish` instead of 32.
    let row_end = min(row + TILE, p.rows);
    var four = row;
    loop {
        let end = min(four + 4u, row_end);
        var one = four;
        loop {
            let i = one - four;
            let sum = select(select(sum0[0], sum1[0], i == 1u), select(sum2[0], sum3[0], i == 3u), i > 1u);
            finish(one, unit, sum);
            one++;
            if one >= end {
                break;
            }
        }
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
