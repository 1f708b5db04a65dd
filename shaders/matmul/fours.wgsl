// For software drivers alone: what `matmul/wide.wgsl` and `matmul/eights.wgsl` share. A workgroup is one subgroup of
// exactly 8 lanes, with a tile of TILE x TILE; a lane keeps four lines of it as 4 x 8 sums of four elements.

const GROUP: u32 = 8u;
const TILE: u32 = 32u;

// Adds the products of eight lines, four k of which each lane holds, to their sums.
fn multiply(sum: ptr<function, array<vec4<f32>, 8>>, lines: vec4<f32>, across: mat4x4<f32>) {
    let r0 = subgroupBroadcast(lines, 0u);
    (*sum)[0] = (*sum)[0] + r0.x * across[0] + r0.y * across[1] + r0.z * across[2] + r0.w * across[3];
    let r1 = subgroupBroadcast(lines, 1u);
    (*sum)[1] = (*sum)[1] + r1.x * across[0] + r1.y * across[1] + r1.z * across[2] + r1.w * across[3];
    let r2 = subgroupBroadcast(lines, 2u);
    (*sum)[2] = (*sum)[2] + r2.x * across[0] + r2.y * across[1] + r2.z * across[2] + r2.w * across[3];
    let r3 = subgroupBroadcast(lines, 3u);
    (*sum)[3] = (*sum)[3] + r3.x * across[0] + r3.y * across[1] + r3.z * across[2] + r3.w * across[3];
    let r4 = subgroupBroadcast(lines, 4u);
    (*sum)[4] = (*sum)[4] + r4.x * across[0] + r4.y * across[1] + r4.z * across[2] + r4.w * across[3];
    let r5 = subgroupBroadcast(lines, 5u);
    (*sum)[5] = (*sum)[5] + r5.x * across[0] + r5.y * across[1] + r5.z * across[2] + r5.w * across[3];
    let r6 = subgroupBroadcast(lines, 6u);
    (*sum)[6] = (*sum)[6] + r6.x * across[0] + r6.y * across[1] + r6.z * across[2] + r6.w * across[3];
    let r7 = subgroupBroadcast(lines, 7u);
    (*sum)[7] = (*sum)[7] + r7.x * across[0] + r7.y * across[1] + r7.z * across[2] + r7.w * across[3];
}

// The sums without the first, which has been stored.
fn shift(sum: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 7u; i++) {
        (*sum)[i] = (*sum)[i + 1u];
    }
}

// Stores rows `first` to `end`, four at most, of four elements from `column` on. The end is no constant: drivers would write the loop out.
fn store_rows(rows: mat4x4<f32>, plane: u32, first: u32, end: u32, column: u32) {
    var row = first;
    loop {
        let i = row - first;
        let value = select(select(rows[0], rows[1], i == 1u), select(rows[2], rows[3], i == 3u), i > 1u);
        // A lane may have no row at all.
        if row < p.rows {
            store(value, (plane * p.rows + row) * p.columns, column);
        }
        row++;
        if row >= end {
            break;
        }
    }
}
