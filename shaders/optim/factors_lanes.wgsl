// For software drivers alone: `optim/factors_tiles.wgsl` without barriers. An invocation takes 64 rows and 16 columns.
//
// Asks for the same, with a tile an invocation, and for vectors V (`shared/vectors.wgsl`); `squares(at, some, clip)`, the parts of the
// squares of the vector of gradients at element `at`, of which `some` elements count. Workgroups: ceil(tiles / 64). Iterations: 64.

const WIDTH: u32 = 4u * PARTS;
const VECTORS: u32 = 16u / WIDTH;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = (group.x + group.y * groups.x) * 64u + lane;
    if tile >= p.tiles {
        return;
    }
    let number = 3u * tile;
    let matrix = 8u * tiles[number];
    let down = tiles[number + 1u];
    let across = tiles[number + 2u];
    let rows = matrices[matrix + 1u];
    let columns = matrices[matrix + 2u];
    let strips = (columns + 15u) / 16u;
    let clip = status[0].y;
    let last = min(64u * down + 64u, rows);
    var sums: array<vec4<f32>, 4>;
    // The condition stands at the head: see docs/software-drivers.md, "lanes that have left".
    for (var row = 64u * down; row < last; row++) {
        var along = vec4<f32>(0.0);
        for (var v = 0u; v < VECTORS; v++) {
            // A vector behind the last column is read where the first one is, and counts nothing.
            let column = 16u * across + v * WIDTH;
            let some = min(columns - min(column, columns), WIDTH);
            let at = matrices[matrix] + row * columns + select(0u, column, some != 0u);
            let all = squares(at, some, clip);
            for (var k = 0u; k < PARTS; k++) {
                sums[v * PARTS + k] += all[k];
                along += all[k];
            }
        }
        partial[matrices[matrix + 6u] + row * strips + across] = along.x + along.y + along.z + along.w;
    }
    let first = matrices[matrix + 7u] + down * columns;
    for (var v = 0u; v < VECTORS; v++) {
        for (var k = 0u; k < PARTS; k++) {
            for (var l = 0u; l < 4u; l++) {
                let column = 16u * across + v * WIDTH + element(0u, k, l);
                if column < columns {
                    partial[first + column] = sums[v * PARTS + k][l];
                }
            }
        }
    }
}
