// Sums over units of gradients (rows, whole parameters): a workgroup sums a span of elements, all of one unit, to
// partial[p.first + span].
//
// spans    [p.spans, 2], the first element and the one behind the last
// partial  two sums a span
//
// Asks for: `term(i) -> vec2<f32>`, what element i adds. Iterations: elements of a span / 64.

var<workgroup> gathered: array<vec2<f32>, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let span = group.x + group.y * groups.x;
    // Workgroups are folded to two dimensions: some are too many.
    let some = span < p.spans;
    var sum = vec2<f32>(0.0);
    if some {
        for (var i = spans[2u * span] + lane; i < spans[2u * span + 1u]; i += 64u) {
            sum += term(i);
        }
    }
    gathered[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            gathered[lane] += gathered[lane + half];
        }
    }
    if some && lane == 0u {
        partial[p.first + span] = gathered[0];
    }
}
