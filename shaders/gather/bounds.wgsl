// Where the run of each place begins and ends among the sorted targets. A place without one keeps its empty run.
//
// sorted  [count], the targets in order
// runs    [2 * nowhere], (begin, end) of each place (written)
//
// Workgroups: ceil(count / 64).

fn work(s: u32) {
    if s >= p.count {
        return;
    }
    let place = sorted[s];
    if place >= p.nowhere {
        return;
    }
    var before = p.nowhere;
    if s > 0u {
        before = sorted[s - 1u];
    }
    if before != place {
        runs[2u * place] = s;
    }
    var behind = p.nowhere;
    if s + 1u < p.count {
        behind = sorted[s + 1u];
    }
    if behind != place {
        runs[2u * place + 1u] = s + 1u;
    }
}
