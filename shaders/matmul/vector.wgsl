// The product of `matmul/common.wgsl` with rows = 1, for GPUs; a product with one column is bound and described transposed.
//
// A workgroup forms OUTPUTS results with 256 / OUTPUTS lanes each, which take every so manieth k, in four sums; these are added,
// then the lanes in a tree, the same in every run.
//
// Constants:
//   ALONG_DEPTH: bool    k is the contiguous axis of b: neighbours take neighbouring k of one result, else neighbouring results
//   OUTPUTS = 4 or 64    results of a workgroup: 4 along k
//   GROUP = 256          invocations of a workgroup (`shared/team.wgsl`)
// Grid: splits * batch_outer * batch_inner * ceil(columns / OUTPUTS) workgroups, folded freely over x and y.
// Loops: ceil(min(split_depth, depth) * OUTPUTS / 256) + 8 iterations an invocation.

const LANES: u32 = GROUP / OUTPUTS;

var<workgroup> lane_sums: array<f32, GROUP>;

fn work(group_index: u32, local: u32) {
    let tiles = (p.columns + OUTPUTS - 1u) / OUTPUTS;
    let plane = group_index / tiles;
    let part = part_of(plane);
    if part.is_outside {
        return;
    }
    let lane = select(local / OUTPUTS, local % LANES, ALONG_DEPTH);
    let output = select(local % OUTPUTS, local / LANES, ALONG_DEPTH);
    let column = (group_index - plane * tiles) * OUTPUTS + output;

    // Columns past the edge read the last one; their sums are never stored.
    var a_at = part.a + lane * p.a_column;
    var b_at = part.b + lane * p.b_row + min(column, p.columns - 1u) * p.b_column;
    let a_step = LANES * p.a_column;
    let b_step = LANES * p.b_row;
    // Four sums, whose reads are under way together.
    var sums = vec4<f32>();
    var k = lane;
    for (; k + 3u * LANES < part.count; k += 4u * LANES) {
        let left = vec4<f32>(
            from_a(a[a_at]),
            from_a(a[a_at + a_step]),
            from_a(a[a_at + 2u * a_step]),
            from_a(a[a_at + 3u * a_step]),
        );
        let right = vec4<f32>(
            from_b(b[b_at]),
            from_b(b[b_at + b_step]),
            from_b(b[b_at + 2u * b_step]),
            from_b(b[b_at + 3u * b_step]),
        );
        sums += left * right;
        a_at += 4u * a_step;
        b_at += 4u * b_step;
    }
    for (; k < part.count; k += LANES) {
        sums.x += from_a(a[a_at]) * from_b(b[b_at]);
        a_at += a_step;
        b_at += b_step;
    }
    lane_sums[lane * OUTPUTS + output] = (sums.x + sums.y) + (sums.z + sums.w);
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lane_sums[lane * OUTPUTS + output] += lane_sums[(lane + half) * OUTPUTS + output];
        }
        workgroupBarrier();
    }
    if lane == 0u && column < p.columns {
        let index = plane * p.columns + column;
        c[index] = epilogue(lane_sums[output], index);
    }
}
