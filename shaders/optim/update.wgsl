// The update of an optimizer over one arena: goes over its vectors and leaves the mathematics to `apply`.
//
// Asks for: `optim/update_shared.wgsl` and what that does; vectors V (`shared/vectors.wgsl`).
// One invocation a vector; workgroups: ceil(vectors / 64).

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
    let block = i / (16u / PARTS);
    let class_number = class_of(block);
    if class_number == 0u {
        return;
    }
    if shared_verdict.z != 0.0 {
        return;
    }
    apply(i, shared_verdict.y, factors_of(block, class_number));
}
