// For software drivers alone: `optim/update.wgsl` where what blocks have of their own is loaded, which is dear there. A team of 8
// neighbours goes over a span together, a vector each, so that what it has of its own is loaded once and memory is read in order.
//
// Asks for the same, and for `optim/spans.wgsl`. Workgroups: ceil(p.spans / 8). Iterations: vectors of a span / 8.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    if index >= 8u * p.spans {
        return;
    }
    let own = take_span(index / 8u);
    let block = own.x / (16u / PARTS);
    let class_number = class_of(block);
    var i = own.x + index % 8u;
    if class_number == 0u || shared_verdict.z != 0.0 || i >= own.y {
        return;
    }
    let factors = factors_of(block, class_number);
    // There surely is a round, so the loop ends where one does.
    loop {
        apply(i, shared_verdict.y, factors);
        i += 8u;
        if i >= own.y {
            break;
        }
    }
}
