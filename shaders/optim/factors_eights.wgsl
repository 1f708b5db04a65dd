// For software drivers alone: `optim/factors_means.wgsl` with eight rows or columns an invocation, so that what they share is loaded once.
//
// entries   [p.entries, 2]: twice the number of a matrix, 1 more for columns; the first of eight
// matrices  as there
// partial   as `optim/factors_rows.wgsl` left it
//
// Asks for: `optim/nearer.wgsl`; `adjust`; vectors V, as which partial is bound; `const COLUMNS`, columns of a tile; `const SOME_DIRECT`, true if there
// are matrices whose squares are summed here. Workgroups: ceil(entries / 64). Iterations: terms.

const NONE: u32 = 0xffffffffu;
const VECTORS: u32 = 2u / PARTS;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let verdict = status[0];
    if index >= p.entries || verdict.z != 0.0 {
        return;
    }
    let word = entries[2u * index];
    let first = entries[2u * index + 1u];
    let matrix = 8u * (word / 2u);
    let is_row = word % 2u == 0u;
    let start = matrices[matrix];
    let rows = matrices[matrix + 1u];
    let columns = matrices[matrix + 2u];
    let c = status[matrices[matrix + 5u]].x;
    let parts_at = matrices[matrix + select(7u, 6u, is_row)];
    let direct = parts_at == NONE;
    let length = select(columns, rows, is_row);
    let count = select(rows, columns, is_row);
    // Sums of a row are from each invocation of a team, those of a column from each tile.
    let parts = select((rows + 63u) / 64u, 8u * ((columns + COLUMNS - 1u) / COLUMNS), is_row);
    let kept = matrices[matrix + select(4u, 3u, is_row)] + first;
    var sums: array<vec4<f32>, 2>;
    // Conditions stand at the head: see docs/software-drivers.md, "lanes that have left".
    for (var i = 0u; i < select(parts, 0u, direct); i++) {
        let at = (parts_at + i * ((length + 7u) / 8u * 8u) + first) / 8u * VECTORS;
        for (var v = 0u; v < VECTORS; v++) {
            let all = partial[at + v];
            for (var k = 0u; k < PARTS; k++) {
                sums[v * PARTS + k] += part(all, k);
            }
        }
    }
    if SOME_DIRECT {
        for (var i = 0u; i < select(0u, count, direct); i++) {
            for (var v = 0u; v < VECTORS; v++) {
                for (var k = 0u; k < PARTS; k++) {
                    for (var l = 0u; l < 4u; l++) {
                        let own = min(first + element(v, k, l), length - 1u);
                        let at = start + select(i * columns + own, own * columns + i, is_row);
                        let g = adjust(vec4<f32>(gradients[at]), vec4<f32>(theta[at]), verdict.y).x;
                        sums[v * PARTS + k][l] += g * g;
                    }
                }
            }
        }
    }
    for (var v = 0u; v < VECTORS; v++) {
        for (var k = 0u; k < PARTS; k++) {
            for (var l = 0u; l < 4u; l++) {
                let own = element(v, k, l);
                let at = kept + own;
                let is_inside = first + own < length;
                let mean = sums[v * PARTS + k][l] / f32(count);
                if is_inside && is_row {
                    row[at] = nearer(row[at], mean, c);
                }
                if is_inside && !is_row {
                    column[at] = nearer(column[at], mean, c);
                }
            }
        }
    }
}
