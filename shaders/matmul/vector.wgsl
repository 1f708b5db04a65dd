// Product of a vector and a matrix, for GPUs:
//   c[s, n0, n1, 0, j] = epilogue(sum over k in part s of a[n0, n1, 0, k] * b[n0, n1, k, j])
// The parameters are those of the other products with rows = 1; a product with one column is bound and described transposed.
//
// A workgroup forms OUTPUTS results with 256 / OUTPUTS lanes each, which take every so manieth k; lanes are added in a tree,
// the same in every run.
//
// binding 0  a, any layout given by strides; its first element is a_start
// binding 1  b, alike
// binding 2  c [splits, batch_outer, batch_inner, columns], contiguous; partial sums with splits > 1
//
// Sizes: `matmul/common.wgsl`, which goes in front. Constants (host prepends):
//   A_TYPE, B_TYPE, from_a, from_b   element types of bindings 0 and 1, and an element as f32 (see `ops/product.rs`)
//   ALONG_DEPTH: bool    k is the contiguous axis of b: neighbours take neighbouring k of one result, else neighbouring results
//   OUTPUTS = 4 or 64    results of a workgroup: 4 along k
// Workgroup: (256, 1, 1).
// Grid: splits * batch_outer * batch_inner * ceil(columns / OUTPUTS) workgroups, folded freely over x and y.
// Loops: ceil(min(split_depth, depth) * OUTPUTS / 256) + 8 iterations an invocation.

@group(0) @binding(0) var<storage, read> a: array<A_TYPE>;
@group(0) @binding(1) var<storage, read> b: array<B_TYPE>;
@group(0) @binding(2) var<storage, read_write> c: array<OUT>;

const THREADS: u32 = 256u;
const LANES: u32 = THREADS / OUTPUTS;

var<workgroup> lane_sums: array<f32, THREADS>;

@compute @workgroup_size(THREADS, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_index = group.x + group.y * group_count.x;
    let tiles = (p.columns + OUTPUTS - 1u) / OUTPUTS;
    let plane = group_index / tiles;
    let batches = p.batch_outer * p.batch_inner;
    let split = plane / batches;
    if split >= p.splits {
        return;
    }
    let lane = select(local / OUTPUTS, local % LANES, ALONG_DEPTH);
    let output = select(local % OUTPUTS, local / LANES, ALONG_DEPTH);
    let column = (group_index - plane * tiles) * OUTPUTS + output;
    let batch = plane - split * batches;
    let outer = batch / p.batch_inner;
    let inner = batch - outer * p.batch_inner;
    let begin = min(split * p.split_depth, p.depth);
    let count = min(p.split_depth, p.depth - begin);

    // Columns past the edge read the last one; their sums are never stored.
    var a_at = p.a_start + outer * p.a_batch_outer + inner * p.a_batch_inner + (begin + lane) * p.a_column;
    var b_at = p.b_start + outer * p.b_batch_outer + inner * p.b_batch_inner + (begin + lane) * p.b_row
        + min(column, p.columns - 1u) * p.b_column;
    var sum = 0.0;
    for (var k = lane; k < count; k += LANES) {
        sum += from_a(a[a_at]) * from_b(b[b_at]);
        a_at += LANES * p.a_column;
        b_at += LANES * p.b_row;
    }
    lane_sums[lane * OUTPUTS + output] = sum;
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
