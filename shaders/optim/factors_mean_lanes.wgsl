// For software drivers alone: `optim/factors_mean.wgsl` where matrices have few rows, an invocation a matrix.
//
// Asks for the same. Workgroups: ceil(matrices / 64). Iterations: rows.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = (group.x + group.y * groups.x) * 64u + lane;
    if 8u * number >= arrayLength(&matrices) {
        return;
    }
    let rows = matrices[8u * number + 1u];
    let first = matrices[8u * number + 3u];
    var sum = 0.0;
    for (var r = 0u; r < rows; r++) {
        sum += row[first + r];
    }
    row_means[number] = sum / f32(rows);
}
