// For software drivers alone: what Adafactor measures, or its update. A team of 8 neighbours goes over a part of a matrix, a vector each side by
// side, so that memory is read in order, and of four rows at once, so that columns are loaded once for these; or over a span of what is no
// such matrix (`optim/spans.wgsl`).
//
// sites  from word p.spans_at on eight words for each team: where the site of its parameter begins; rows of the part, its first vector, its
//        vectors across, the vectors from row to row, its first row and column among the factors, the mean of the rows. Of a span: 0, its first
//        vector, the one behind its last
//
// Asks for: `optim/adafactor.wgsl` with what that does; `optim/update_shared.wgsl`, `optim/measured.wgsl`; `const SOME_WALKS`, `const SOME_SPANS`, true if there are such;
// `visit(i, counts, scales, clip, f)`, for vector i, unless it does not count, with 1 / sqrt(s) of each element; `visit_any(i, clip, f)`, for
// one of which nothing is known; `finish(index)`, at the end of each invocation. Workgroups: ceil(p.spans / 8). Iterations: vectors of a part / 8.

// The word of `sites` where that of the team's parameter begins.
var<private> own_site_at: u32;

// What has a root, and the product of two of them, in f32.
const LEAST: f32 = 1e-37;

// 1 / sqrt(s) where these are its columns, and 1 / sqrt of the row over the mean of the rows.
fn scales_of(columns: array<vec4<f32>, PARTS>, row: f32, f: Factors) -> array<vec4<f32>, PARTS> {
    var scales: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        scales[k] = min(columns[k] * row, vec4<f32>(1.0 / f.rates.z));
    }
    return scales;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    if index >= 8u * p.spans {
        return;
    }
    let at = p.spans_at + 8u * (index / 8u);
    let own = index % 8u;
    own_site_at = sites[at];
    let class_number = take_site(own_site_at);
    let some = class_number != 0u && shared_verdict.z == 0.0;
    let clip = shared_verdict.y;
    let f = factors_of(0u, class_number);
    let rows = select(0u, sites[at + 1u], some);
    let first = sites[at + 2u];
    let across = sites[at + 3u];
    if SOME_WALKS {
        let between = sites[at + 4u];
        let row_at = sites[at + 5u];
        let column_at = sites[at + 6u] / (4u * PARTS);
        let mean = max(row_means[select(0u, sites[at + 7u], rows != 0u)], f.rates.z);
        for (var band = 0u; band < rows; band += 4u) {
            let all = min(vec4<u32>(band, band + 1u, band + 2u, band + 3u), vec4<u32>(rows - 1u));
            let lines = first + all * between;
            let at_rows = row_at + all;
            let sums = vec4<f32>(row[at_rows.x], row[at_rows.y], row[at_rows.z], row[at_rows.w]);
            let scale = 1.0 / sqrt(max(sums / mean, vec4<f32>(LEAST)));
            var i = own;
            // There surely is a round, so the loop ends where one does; an invocation behind the last column has nothing that counts.
            loop {
                let is_inside = i < across;
                let here = min(i, across - 1u);
                let column_sums = column[column_at + here];
                var columns: array<vec4<f32>, PARTS>;
                for (var k = 0u; k < PARTS; k++) {
                    columns[k] = 1.0 / sqrt(max(part(column_sums, k), vec4<f32>(LEAST)));
                }
                visit(lines.x + here, is_inside, scales_of(columns, scale.x, f), clip, f);
                visit(lines.y + here, is_inside && band + 1u < rows, scales_of(columns, scale.y, f), clip, f);
                visit(lines.z + here, is_inside && band + 2u < rows, scales_of(columns, scale.z, f), clip, f);
                visit(lines.w + here, is_inside && band + 3u < rows, scales_of(columns, scale.w, f), clip, f);
                i += 8u;
                if i >= across {
                    break;
                }
            }
        }
    }
    if SOME_SPANS {
        measured_end = own_site.first + own_site.elements;
        let end = select(0u, across, some && rows == 0u);
        for (var i = first + own; i < end; i += 8u) {
            visit_any(i, clip, f);
        }
    }
    finish(index);
}
