// The sums of an invocation of `matmul/registers.wgsl`, ROWS x COLUMNS: every invocation reads each row of a for itself.
// `matmul/rows_subgroup.wgsl` does the same for software drivers.
//
// Constants:
//   ROWS = 8, COLUMNS = 8       tile of an invocation
//   GROUP_X = 8, GROUP_Y = 1    invocations a workgroup, along columns and along rows (discrete GPU: 16 and 8 or 16)

// Elements of a that an invocation reads a k.
const LOADS: u32 = ROWS;
const MAY_BE_EMPTY: bool = true;

// The row of a tile that a load reads.
fn row_of(load: u32, lane: u32) -> u32 {
    return load;
}

fn add_load(sum: ptr<function, array<array<f32, COLUMNS>, ROWS>>, load: u32, a_value: f32, b_values: ptr<function, array<f32, COLUMNS>>) {
    for (var j = 0u; j < COLUMNS; j++) {
        (*sum)[load][j] += a_value * (*b_values)[j];
    }
}
