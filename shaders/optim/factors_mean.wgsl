// The mean of the rows of each matrix (see `optim/adafactor.wgsl`), a workgroup a matrix.
//
// matrices  [matrices, 8]: first element, rows, columns, where its rows and columns begin, its class, where its partial sums of rows and of
//           columns begin
// row_means  [matrices]

var<workgroup> row_sums: array<f32, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    let some = 8u * number < arrayLength(&matrices);
    var sum = 0.0;
    var rows = 0u;
    if some {
        rows = matrices[8u * number + 1u];
        for (var r = lane; r < rows; r += 64u) {
            sum += row[matrices[8u * number + 3u] + r];
        }
    }
    row_sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            row_sums[lane] += row_sums[lane + half];
        }
    }
    if some && lane == 0u {
        row_means[number] = row_sums[0] / f32(rows);
    }
}
