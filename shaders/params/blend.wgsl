// own <- own + tau (other - own) over a range: what is the same in both stays as it is.
//
// own, other  vectors of four floats, p.vectors of them
// operands    tau at word p.word
// One invocation a vector; workgroups: ceil(vectors / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i < p.vectors {
        let tau = bitcast<vec4<f32>>(operands[p.word / 4u]).x;
        own[i] += tau * (other[i] - own[i]);
    }
}
