// One workgroup a row: lane l takes elements l, l + 64, ..; the lanes' states are joined as a tree, in a fixed order.
// Workgroups: rows. Iterations: 2 (length / 64 + 1) + 6.

var<workgroup> states: array<State, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.x + group.y * groups.x;
    if row >= p.rows {
        return;
    }
    var state = start();
    for (var j = lane; j < p.length; j += 64u) {
        state = take(state, row, j);
    }
    states[lane] = state;
    for (var half = 32u; half > 0u; half >>= 1u) {
        workgroupBarrier();
        if lane < half {
            states[lane] = join(states[lane], states[lane + half]);
        }
    }
    workgroupBarrier();
    let total = close(states[0]);
    let count = select(p.length, 1u, PER_ROW);
    for (var k = lane; k < count; k += 64u) {
        write(total, row, k);
    }
}
