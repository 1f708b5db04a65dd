// For software drivers alone, which cut the workgroups of a dispatch into equal parts, one a thread, and wait for the last
// (docs/software-drivers.md): put after a kernel whose `main` has become a function. The lanes of a subgroup take units of its work, one
// subgroup of a workgroup each, until none is left. Who does a unit changes nothing but the order in time.
//
// Put in front: `const BALANCE_LANES`; `fn balanced(unit, lane)`.
// binding 62  balance: units; how many a subgroup takes at first; at least; in all, for the driver ends the loops of an invocation
//             silently after 65,535 rounds. Takes shrink, so that all end together.
// binding 63  the number of units taken, 0 when the dispatch begins.

@compute @workgroup_size(BALANCE_LANES)
fn main(@builtin(subgroup_invocation_id) lane: u32) {
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
        // Asked at the end of a round: what leaves a loop only there would do one more.
        let end = min(first + count, balance.x);
        var unit = first;
        loop {
            balanced(unit, lane);
            unit++;
            if unit >= end {
                break;
            }
        }
    }
}
