// Means of squares over the rows and columns of matrices of gradients, and what Adafactor keeps of them: an invocation a row or column.
//
// entries   [workgroups, 2]: a matrix, the first of its rows and columns
// matrices  [matrices, 8]: first element, rows, columns, where its rows and columns begin, its class, where its partial sums of rows and of
//           columns begin; NONE where sums are taken here
// partial   as `optim/factors_tiles.wgsl` left it
//
// Asks for: `optim/nearer.wgsl`; `adjust`.

const NONE: u32 = 0xffffffffu;

fn square_at(at: u32, clip: f32) -> f32 {
    let g = adjust(vec4<f32>(gradients[at]), vec4<f32>(theta[at]), clip).x;
    return g * g;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = 2u * (group.x + group.y * groups.x);
    let verdict = status[0];
    if number >= arrayLength(&entries) || verdict.z != 0.0 {
        return;
    }
    let matrix = 8u * entries[number];
    let entry = entries[number + 1u] + lane;
    let rows = matrices[matrix + 1u];
    let columns = matrices[matrix + 2u];
    if entry >= rows + columns {
        return;
    }
    let is_row = entry < rows;
    let own = select(entry - rows, entry, is_row);
    let count = select(rows, columns, is_row);
    let direct = matrices[matrix + 6u] == NONE;
    let tiles = select((rows + 63u) / 64u, (columns + 63u) / 64u, is_row);
    var sum = 0.0;
    for (var k = 0u; k < select(tiles, count, direct); k++) {
        if direct {
            let at = select(k * columns + own, own * columns + k, is_row);
            sum += square_at(matrices[matrix] + at, verdict.y);
        } else if is_row {
            sum += partial[matrices[matrix + 6u] + k * rows + own];
        } else {
            sum += partial[matrices[matrix + 7u] + k * columns + own];
        }
    }
    let mean = sum / f32(count);
    let c = status[matrices[matrix + 5u]].x;
    if is_row {
        let at = matrices[matrix + 3u] + own;
        row[at] = nearer(row[at], mean, c);
    } else {
        let at = matrices[matrix + 4u] + own;
        column[at] = nearer(column[at], mean, c);
    }
}
