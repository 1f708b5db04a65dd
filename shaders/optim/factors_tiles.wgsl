// Sums of squares over the rows and columns of large matrices of gradients (see `optim/adafactor.wgsl`): a workgroup takes 64 rows and 64
// columns, and leaves what they add to each.
//
// tiles     [workgroups, 3]: a matrix, the number of the tile along the rows and along the columns
// matrices  [matrices, 8]: first element, rows, columns, where its rows and columns begin, its class, where its partial sums of rows and of
//           columns begin
// partial   per tile column a sum a row, per tile row a sum a column

var<workgroup> tile: array<f32, 4160>;

// Four times as many invocations as a tile has rows or columns: with fewer a compute unit's workgroup memory is full before loads keep it
// busy.
@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = 3u * (group.x + group.y * groups.x);
    let some = number < 3u * p.tiles;
    var matrix = 0u;
    var along_rows = 0u;
    var along_columns = 0u;
    if some {
        matrix = 8u * tiles[number];
        along_rows = tiles[number + 1u];
        along_columns = tiles[number + 2u];
    }
    let rows = matrices[matrix + 1u];
    let columns = matrices[matrix + 2u];
    let part = lane / 64u;
    let own = lane % 64u;
    let column = along_columns * 64u + own;
    let clip = status[0].y;
    for (var k = 0u; k < 16u; k++) {
        let r = part * 16u + k;
        let row = along_rows * 64u + r;
        var square = 0.0;
        if some && row < rows && column < columns {
            let at = matrices[matrix] + row * columns + column;
            let g = adjust(vec4<f32>(gradients[at]), vec4<f32>(theta[at]), clip).x;
            square = g * g;
        }
        tile[r * 65u + own] = square;
    }
    workgroupBarrier();
    // A part sums the columns, another one the rows.
    let row = along_rows * 64u + own;
    var sum = 0.0;
    if part < 2u {
        for (var k = 0u; k < 64u; k++) {
            sum += tile[select(own * 65u + k, k * 65u + own, part == 0u)];
        }
    }
    if some && part == 0u && column < columns {
        partial[matrices[matrix + 7u] + along_rows * columns + column] = sum;
    }
    if some && part == 1u && row < rows {
        partial[matrices[matrix + 6u] + along_columns * rows + row] = sum;
    }
}
