// For software drivers alone: those whose subgroups have exactly 8 lanes and where loads are dear.
// The functions are those of `matmul/rows.wgsl`; a workgroup is one subgroup, and lane l reads a's row l once and broadcasts it to the
// others. Needs Features::SUBGROUP; control flow is uniform over the workgroup up to the stores. No part of a split is empty.
//
// Constants: ROW_LOADS = 4: a tile has 8 * ROW_LOADS rows; COLUMNS = 4; ROW_LOADS * COLUMNS <= 16, else drivers stop unrolling.

const GROUP_X: u32 = 8u;
const GROUP_Y: u32 = 1u;
const ROWS: u32 = ROW_LOADS * GROUP_X;
const LOADS: u32 = ROW_LOADS;
const MAY_BE_EMPTY: bool = false;

fn row_of(load: u32, lane: u32) -> u32 {
    return load * GROUP_X + lane;
}

fn add_row(sum: ptr<function, array<array<f32, COLUMNS>, ROWS>>, row: u32, a_value: f32, b_values: ptr<function, array<f32, COLUMNS>>) {
    for (var j = 0u; j < COLUMNS; j++) {
        (*sum)[row][j] += a_value * (*b_values)[j];
    }
}

fn add_load(sum: ptr<function, array<array<f32, COLUMNS>, ROWS>>, load: u32, a_value: f32, b_values: ptr<function, array<f32, COLUMNS>>) {
    let first = load * GROUP_X;
    add_row(sum, first, subgroupBroadcast(a_value, 0u), b_values);
    add_row(sum, first + 1u, subgroupBroadcast(a_value, 1u), b_values);
    add_row(sum, first + 2u, subgroupBroadcast(a_value, 2u), b_values);
    add_row(sum, first + 3u, subgroupBroadcast(a_value, 3u), b_values);
    add_row(sum, first + 4u, subgroupBroadcast(a_value, 4u), b_values);
    add_row(sum, first + 5u, subgroupBroadcast(a_value, 5u), b_values);
    add_row(sum, first + 6u, subgroupBroadcast(a_value, 6u), b_values);
    add_row(sum, first + 7u, subgroupBroadcast(a_value, 7u), b_values);
}
