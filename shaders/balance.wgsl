// Put after a kernel whose `main` has become a function: the lanes of a subgroup take units of its work, one subgroup of a workgroup
// each, until none is left.
//
// llvmpipe cuts the workgroups of a dispatch into equal parts, one a thread, and waits for the last: a thread that wakes late, or whose
// core is slower or has other things to do, holds up all. Beside that, on two cores: AdamW in one dispatch 1.3 times as fast, in
// twenty 2.1 times.
//
// Put in front: `const BALANCE_LANES`; `fn balanced(unit, lane)`; `fn balanced_once()`, done before. Which subgroup does a unit changes
// nothing but the order in time. balance: units; those that a subgroup takes at first; at least; in all (the driver ends loops silently after 65,535 rounds of an
// invocation). The queue is zero when the dispatch begins. What a subgroup takes shrinks, so that all end together: taking equal shares
// instead, AdamW lost a third with short ones and as much as without a queue with long ones.

@group(0) @binding(62) var<uniform> balance: vec4<u32>;
@group(0) @binding(63) var<storage, read_write> balance_queue: array<atomic<u32>, 1>;

@compute @workgroup_size(BALANCE_LANES)
fn main(@builtin(subgroup_invocation_id) lane: u32) {
    balanced_once();
    var left = balance.w;
    for (var turn = 0u; left > 0u; turn++) {
        // Half as much every second time.
        let count = min(max(balance.y >> min(turn / 2u, 31u), balance.z), left);
        var first = 0u;
        if lane == 0u {
            first = atomicAdd(&balance_queue[0], count);
        }
        first = subgroupBroadcastFirst(first);
        if first >= balance.x {
            break;
        }
        left -= count;
        let end = min(first + count, balance.x);
        for (var unit = first; unit < end; unit++) {
            balanced(unit, lane);
        }
    }
}
