// For software drivers alone: `optim/units.wgsl` without barriers. An invocation sums a span to partial[p.first + span].
//
// Asks for the same. Iterations: elements of a span.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let span = (group.x + group.y * groups.x) * 64u + lane;
    if span >= p.spans {
        return;
    }
    var sum = vec2<f32>(0.0);
    for (var i = spans[2u * span]; i < spans[2u * span + 1u]; i++) {
        sum += term(i);
    }
    partial[p.first + span] = sum;
}
