// For software drivers alone: `optim/update.wgsl` where what blocks have of their own is loaded, which is dear there. A team of 8
// neighbours goes over a span together, a vector each, so that what it has of its own is loaded once and memory is read in order.
//
// Asks for the same, and for `span_word(at)`, five for each span: its first vector, the one behind its last, all of one parameter, a word
// that is not read, the number of the parameter, its class. `class_of` and `sums_of` may read them from `own_span` on.
// Workgroups: ceil(p.spans / 8). Iterations: vectors of a span / 8.

// The first word of the span at hand.
var<private> own_span: u32;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.x + group.y * groups.x) * 64u + lane;
    let span = index / 8u;
    if span >= p.spans {
        return;
    }
    own_span = 5u * span;
    let first = span_word(own_span);
    let end = span_word(own_span + 1u);
    let block = first / (16u / PARTS);
    let class_number = class_of(block);
    var i = first + index % 8u;
    if class_number == 0u || i >= end {
        return;
    }
    if shared_verdict.z != 0.0 {
        return;
    }
    let factors = factors_of(block, class_number);
    // The loop ends where a round does: one that surely is, is then no more.
    loop {
        apply(i, shared_verdict.y, factors);
        i += 8u;
        if i >= end {
            break;
        }
    }
}
