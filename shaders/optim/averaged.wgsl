// The average that a rule keeps, x = theta + p.share (moment - theta), or the moment itself for a share of 1; theta where a parameter
// has had no update.
//
// counts  [parameters], updates so far
// owners  [blocks of 64 elements], the parameter of each
//
// Asks for: vectors V (`shared/vectors.wgsl`). One invocation a vector; workgroups: ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i >= p.vectors {
        return;
    }
    let weight = theta[i];
    if counts[owners[i / (16u / PARTS)]] == 0u {
        average[i] = weight;
        return;
    }
    let kept = moment[i];
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        let own = part(weight, k);
        let other = part(kept, k);
        x[k] = select(own + p.share * (other - own), other, p.share == 1.0);
    }
    average[i] = joined(x);
}
