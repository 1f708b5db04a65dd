// Put after a kernel whose `main` has become a function: the lanes of a subgroup take units of its work, one subgroup of a workgroup
// each, until none is left.
//
// llvmpipe cuts the workgroups of a dispatch into equal parts, one a thread, and waits for the last: a thread that wakes late, or whose
// core is slower or has other things to do, holds up all. Beside that, on two cores: AdamW in one dispatch 1.3 times as fast, in
// twenty 2.1 times.
//
// Put in front: `const BALANCE_LANES`; `fn balanced(unit, lane)`. Which subgroup does a unit changes nothing but the order in time.
// balance: units, units taken at a time, turns an invocation may take (the driver ends its loops silently after 65,535 rounds in
// all). The last subgroup to end leaves the queue as it was: two zeros.

@group(0) @binding(62) var<uniform> balance: vec4<u32>;
@group(0) @binding(63) var<storage, read_write> balance_queue: array<atomic<u32>, 2>;

@compute @workgroup_size(BALANCE_LANES)
fn main(@builtin(subgroup_invocation_id) lane: u32, @builtin(num_workgroups) groups: vec3<u32>) {
    var left = balance.z;
    while left > 0u {
        var first = 0u;
        var count = 0u;
        if lane == 0u {
            let rest = balance.x - min(atomicLoad(&balance_queue[0]), balance.x);
            count = min(max(rest >> balance.w, balance.y), left);
            first = atomicAdd(&balance_queue[0], count);
        }
        first = subgroupBroadcastFirst(first);
        if first >= balance.x {
            break;
        }
        count = subgroupBroadcastFirst(count);
        left -= count;
        let end = min(first + count, balance.x);
        for (var unit = first; unit < end; unit++) {
            balanced(unit, lane);
        }
    }
    if lane == 0u && atomicAdd(&balance_queue[1], 1u) == groups.x * groups.y - 1u {
        atomicStore(&balance_queue[0], 0u);
        atomicStore(&balance_queue[1], 0u);
    }
}
