// For software drivers alone: `optim/measure.wgsl` without barriers. A team of 8 neighbours goes over a span, a vector each, and each
// leaves what it has summed: to partial[p.first + 8 span + its number].
//
// Asks for the same, and for `const ONE_CLASS` as in `optim/update_shared.wgsl`. Workgroups: ceil(p.spans / 8). Iterations: vectors of a
// span / 8.

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
    let index = (group.x + group.y * groups.x) * 64u + lane;
    if index >= 8u * p.spans {
        return;
    }
    let own = take_span(index / 8u);
    let class_number = class_of(own.x / (16u / PARTS));
    var i = own.x + index % 8u;
    var sum = vec2<f32>(0.0);
    if class_number != 0u && shared_verdict.z == 0.0 && i < own.y {
        var corrected = shared_corrected;
        if !ONE_CLASS {
            corrected = status[class_number];
        }
        let f = factors_at(p.word / 4u, corrected, vec2<f32>(0.0));
        measured_end = span_word(own_span + 2u);
        loop {
            sum += measure(i, shared_verdict.y, f);
            i += 8u;
            if i >= own.y {
                break;
            }
        }
    }
    partial[p.first + index] = sum;
}
