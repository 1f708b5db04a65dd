// For software drivers alone: `optim/measure.wgsl` without barriers. An invocation sums a block of 64 elements to
// partial[p.first + block].
//
// Asks for the same, but for spans `end_of(block)`, the element behind the last of a block's parameter. Workgroups: ceil(blocks / 64).
// Iterations: vectors of a block.

const BLOCK: u32 = 16u / PARTS;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = (group.x + group.y * groups.x) * 64u + lane;
    let first = block * BLOCK;
    if first >= p.vectors {
        return;
    }
    let class_number = class_of(block);
    let verdict = status[0];
    var sum = vec2<f32>(0.0);
    if class_number != 0u && verdict.z == 0.0 {
        let f = factors_at(p.word / 4u, status[class_number], vec2<f32>(0.0));
        measured_end = end_of(block);
        // Whole blocks are unrolled (docs/software-drivers.md, "optimizers").
        if first + BLOCK <= p.vectors {
            for (var k = 0u; k < BLOCK; k++) {
                sum += measure(first + k, verdict.y, f);
            }
        } else {
            for (var i = first; i < p.vectors; i++) {
                sum += measure(i, verdict.y, f);
            }
        }
    }
    partial[p.first + block] = sum;
}
