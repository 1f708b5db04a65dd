// Joins the partial sums that `optim/measure.wgsl` left, a workgroup a parameter.
//
// partial  partial sums
// sums     [parameters], the sum of each
// parts    [p.parameters, 3]: a parameter, its first partial sum, how many there are
//
// Workgroups: p.parameters. Iterations: partial sums of a parameter / 64.

var<workgroup> joined_sums: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.x + group.y * groups.x;
    let own = 3u * number;
    // Workgroups are folded to two dimensions: some are too many.
    let some = number < p.parameters;
    var sum = vec2<f32>(0.0);
    if some {
        for (var i = lane; i < parts[own + 2u]; i += 64u) {
            sum += partial[parts[own + 1u] + i];
        }
    }
    joined_sums[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            joined_sums[lane] += joined_sums[lane + half];
        }
    }
    if some && lane == 0u {
        sums[parts[own]] = joined_sums[0];
    }
}
