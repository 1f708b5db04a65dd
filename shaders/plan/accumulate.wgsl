// g += x over a range of an arena: adds the gradient of one micro-batch to what earlier ones left there.
// One invocation an element; workgroups: ceil(elements / 64).

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.x + group.y * groups.x) * 64u + lane;
    if i < p.elements {
        g[i] = g[i] + x[i];
    }
}
