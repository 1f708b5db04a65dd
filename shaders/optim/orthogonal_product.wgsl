// A product of a round of Newton and Schulz (see `optim/muon.wgsl`), for all matrices at once; a workgroup takes 32 x 32 elements of one:
//
//   GRAM   A = X X^T
//   SQUARE B = b A + c A A
//   STEP   X' = a X + B X
//
// matrices  as in `optim/orthogonal_start.wgsl`; X is at its word p.last, X' at p.next
// tiles     [workgroups, 3]: a matrix, the first row and column
//
// Asks for: `const MODE`, 0 for GRAM, 1 for SQUARE, 2 for STEP. Iterations: inner length / 16 * 24.

var<workgroup> left: array<f32, 512>;
var<workgroup> right: array<f32, 512>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = 3u * (group.x + group.y * groups.x);
    let some = number < arrayLength(&tiles);
    var matrix = 0u;
    var first_row = 0u;
    var first_column = 0u;
    if some {
        matrix = 9u * tiles[number];
        first_row = tiles[number + 1u];
        first_column = tiles[number + 2u];
    }
    let rows = matrices[matrix];
    let long = matrices[matrix + 1u];
    let x = matrices[matrix + p.last];
    let a = matrices[matrix + 4u];
    let b = matrices[matrix + 5u];
    let columns = select(rows, long, MODE == 2u);
    // Workgroups without a tile wait with the others of their dispatch, one round.
    let inner = select(0u, select(rows, long, MODE == 0u), some);
    var source = a;
    if MODE == 0u {
        source = x;
    } else if MODE == 2u {
        source = b;
    }
    var sums: array<vec4<f32>, 4>;
    let rounds = (inner + 15u) / 16u;
    for (var round = 0u; round < rounds; round++) {
        for (var k = 0u; k < 8u; k++) {
            let slot = 64u * k + lane;
            let depth = 16u * round + slot % 16u;
            let row = first_row + slot / 16u;
            var value = 0.0;
            if row < rows && depth < inner {
                value = matrices_now[source + row * inner + depth];
            }
            left[slot] = value;
            // Of the right factor, rows of 32; for A = X X^T it is read along the rows of X.
            var q = 0.0;
            if MODE == 0u {
                let column = first_column + slot / 16u;
                if column < columns && depth < inner {
                    q = matrices_now[x + column * long + depth];
                }
                right[(slot % 16u) * 32u + slot / 16u] = q;
            } else {
                let across = 16u * round + slot / 32u;
                let column = first_column + slot % 32u;
                if column < columns && across < inner {
                    q = matrices_now[select(a, x, MODE == 2u) + across * columns + column];
                }
                right[slot] = q;
            }
        }
        workgroupBarrier();
        for (var depth = 0u; depth < 16u; depth++) {
            let at = depth * 32u + 4u * (lane % 8u);
            let q = vec4<f32>(right[at], right[at + 1u], right[at + 2u], right[at + 3u]);
            for (var r = 0u; r < 4u; r++) {
                sums[r] += left[(4u * (lane / 8u) + r) * 16u + depth] * q;
            }
        }
        workgroupBarrier();
    }
    if !some {
        return;
    }
    let shares = factor(p.word / 4u + 2u);
    for (var r = 0u; r < 4u; r++) {
        for (var k = 0u; k < 4u; k++) {
            let row = first_row + 4u * (lane / 8u) + r;
            let column = first_column + 4u * (lane % 8u) + k;
            if row < rows && column < columns {
                let at = row * columns + column;
                if MODE == 0u {
                    matrices_now[a + at] = sums[r][k];
                } else if MODE == 1u {
                    matrices_now[b + at] = shares.y * matrices_now[a + at] + shares.z * sums[r][k];
                } else {
                    matrices_now[matrices[matrix + p.next] + at] = shares.x * matrices_now[x + at] + sums[r][k];
                }
            }
        }
    }
}
