// For software drivers alone: `optim/measure_sum.wgsl` where parameters have few partial sums. An invocation joins those of a parameter, which are
// whole eights, two a vector.
//
// Asks for the same. Workgroups: ceil(p.parameters / 64). Iterations: partial sums of a parameter / 8.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = (group.x + group.y * groups.x) * 64u + lane;
    if number >= p.parameters {
        return;
    }
    let own = 3u * number;
    let first = parts[own + 1u] / 2u;
    let end = first + parts[own + 2u] / 2u;
    // As many sums as a team leaves: long ones lose more to rounding.
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    var c = vec4<f32>(0.0);
    var d = vec4<f32>(0.0);
    for (var i = first; i < end; i += 4u) {
        a += partial[i];
        b += partial[i + 1u];
        c += partial[i + 2u];
        d += partial[i + 3u];
    }
    let all = (a + b) + (c + d);
    sums[parts[own]] = all.xy + all.zw;
}
