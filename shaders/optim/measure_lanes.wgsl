// For software drivers alone: `optim/measure.wgsl` without barriers. An invocation sums a block of 64 elements to
// partial[p.first + block].
//
// Asks for the same, `const ONE_CLASS` as in `optim/update.wgsl`, and for spans `end_of(block)`, the element behind the last
// of a block's parameter. Workgroups: ceil(blocks / 64). Iterations: vectors of a block.

const BLOCK: u32 = 16u / PARTS;

var<private> shared_verdict: vec4<f32>;
var<private> shared_corrected: vec4<f32>;

fn before_main() {
    take_numbers();
    shared_verdict = status[0];
    if ONE_CLASS {
        shared_corrected = status[p.class_number];
    }
}

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
    var sum = vec2<f32>(0.0);
    if class_number != 0u && shared_verdict.z == 0.0 {
        var corrected = shared_corrected;
        if !ONE_CLASS {
            corrected = status[class_number];
        }
        let f = factors_at(p.word / 4u, corrected, vec2<f32>(0.0));
        measured_end = end_of(block);
        let end = min(first + BLOCK, p.vectors);
        var i = first;
        loop {
            sum += measure(i, shared_verdict.y, f);
            i++;
            if i >= end {
                break;
            }
        }
    }
    partial[p.first + block] = sum;
}
