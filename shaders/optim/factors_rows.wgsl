// For software drivers alone: `optim/factors_tiles.wgsl` without barriers. A team of 8 neighbours takes 64 rows and COLUMNS columns, a vector each
// side by side, so that memory is read in order, and of eight rows at once, so that what columns have so far is loaded once for them.
//
// tiles     [p.tiles, 3]: a matrix, the number of the tile along the rows and along the columns
// matrices  as in `optim/factors_means.wgsl`
// partial   of each matrix a sum a row for each invocation of the teams across it, then per tile along the rows a sum a column; rows and columns
//           are padded to eight
//
// Asks for: `optim/words.wgsl` or `optim/whole.wgsl`; vectors V, as which partial is bound; `adjust`; `const COLUMNS`. Workgroups: ceil(tiles / 8).
// Iterations: 64.

const ACROSS: u32 = COLUMNS / PARTS;

fn padded(length: u32) -> u32 {
    return (length + 7u) / 8u * 8u;
}

// The squares of the vector at word `at`: 0 from word `end` on, and everywhere unless they count.
fn squares(at: u32, end: u32, counts: bool, clip: f32) -> array<vec4<f32>, PARTS> {
    let own = theta_of(at, end);
    let gradient = gradients_of(at, end);
    let some = (vec4<u32>(at, at + 1u, at + 2u, at + 3u) < vec4<u32>(end)) & vec4<bool>(counts);
    var all: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let g = adjust(part(gradient, k), part(own, k), clip);
        all[k] = select(vec4<f32>(0.0), g * g, some);
    }
    return all;
}

fn total(all: array<vec4<f32>, PARTS>) -> f32 {
    var sum = all[0];
    for (var k = 1u; k < PARTS; k++) {
        sum += all[k];
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

fn both(a: array<vec4<f32>, PARTS>, b: array<vec4<f32>, PARTS>) -> array<vec4<f32>, PARTS> {
    var sum: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        sum[k] = a[k] + b[k];
    }
    return sum;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    if index >= 8u * p.tiles {
        return;
    }
    let number = 3u * (index / 8u);
    let own = index % 8u;
    let matrix = 8u * tiles[number];
    let down = tiles[number + 1u];
    let across = tiles[number + 2u];
    let start = matrices[matrix] / PARTS;
    let rows = matrices[matrix + 1u];
    let columns = matrices[matrix + 2u];
    let row_sums = matrices[matrix + 6u] + (8u * across + own) * padded(rows);
    let column_sums = matrices[matrix + 7u] + down * padded(columns);
    let clip = status[0].y;
    // In words.
    let length = columns / PARTS;
    let end = min((across + 1u) * ACROSS, length);
    let last = min(64u * down + 64u, rows) - 1u;
    var row = 64u * down;
    // There surely is a round of both loops, so they end where one does; an invocation behind the last column has nothing that counts.
    loop {
        let some = vec4<u32>(row, row + 1u, row + 2u, row + 3u);
        let more = some + 4u;
        let lines = start + min(some, vec4<u32>(last)) * length;
        let others = start + min(more, vec4<u32>(last)) * length;
        let counts = some <= vec4<u32>(last);
        let others_count = more <= vec4<u32>(last);
        var along = vec4<f32>(0.0);
        var beside = vec4<f32>(0.0);
        var at = across * ACROSS + 4u * own;
        loop {
            let first = squares(lines.x + at, lines.x + end, counts.x, clip);
            let second = squares(lines.y + at, lines.y + end, counts.y, clip);
            let third = squares(lines.z + at, lines.z + end, counts.z, clip);
            let fourth = squares(lines.w + at, lines.w + end, counts.w, clip);
            let fifth = squares(others.x + at, others.x + end, others_count.x, clip);
            let sixth = squares(others.y + at, others.y + end, others_count.y, clip);
            let seventh = squares(others.z + at, others.z + end, others_count.z, clip);
            let eighth = squares(others.w + at, others.w + end, others_count.w, clip);
            along += vec4<f32>(total(first), total(second), total(third), total(fourth));
            beside += vec4<f32>(total(fifth), total(sixth), total(seventh), total(eighth));
            let upper = both(both(first, second), both(third, fourth));
            let lower = both(both(fifth, sixth), both(seventh, eighth));
            let place = column_sums / (4u * PARTS) + min(at, end - 1u) / 4u;
            let so_far = partial[place];
            var sums = both(upper, lower);
            for (var k = 0u; k < PARTS; k++) {
                sums[k] += select(part(so_far, k), vec4<f32>(0.0), row == 64u * down);
            }
            if at < end {
                partial[place] = joined(sums);
            }
            at += 32u;
            if at >= end {
                break;
            }
        }
        let place = (row_sums + row) / (4u * PARTS);
        var parts: array<vec4<f32>, PARTS>;
        if PARTS == 2u {
            parts[PARTS - 1u] = vec4<f32>(along.yw, beside.yw);
            parts[0] = vec4<f32>(along.xz, beside.xz);
            partial[place] = joined(parts);
        } else {
            parts[0] = along;
            partial[place] = joined(parts);
            parts[0] = beside;
            partial[place + 1u] = joined(parts);
        }
        row += 8u;
        if row > last {
            break;
        }
    }
}
