// What a rule measures of its parameters: a workgroup sums a span of vectors, all of one parameter, to partial[p.first + group].
//
// status   as in `optim/update_shared.wgsl`; where the update is skipped nothing is measured
//
// Asks for: a rule with `measure(i, clip, f)`; `optim/measured.wgsl`, `optim/own_numbers.wgsl`, `optim/spans.wgsl`; vectors V;
// `class_of(block)`. Workgroups: p.spans. Iterations: vectors of a span / 64.

var<workgroup> gathered: array<vec2<f32>, 64>;

fn before_main() {
    take_numbers();
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let span = group.x + group.y * groups.x;
    // Workgroups are folded to two dimensions: some are too many.
    let some = span < p.spans;
    var sum = vec2<f32>(0.0);
    if some {
        let own = take_span(span);
        let class_number = class_of(own.x / (16u / PARTS));
        let verdict = status[0];
        if class_number != 0u && verdict.z == 0.0 {
            let f = factors_at(p.word / 4u, status[class_number], vec2<f32>(0.0));
            measured_end = span_word(own_span + 2u);
            for (var i = own.x + lane; i < own.y; i += 64u) {
                sum += measure(i, verdict.y, f);
            }
        }
    }
    gathered[lane] = sum;
    for (var half = 32u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            gathered[lane] += gathered[lane + half];
        }
    }
    if some && lane == 0u {
        partial[p.first + span] = gathered[0];
    }
}
