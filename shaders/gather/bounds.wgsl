// Where the run of each place begins and ends among the sorted targets. A place without one keeps its empty run.
//
// sorted  [count], the targets in order, each with its position
// runs    [2 * nowhere], (begin, end) of each place (written)
//
// An invocation looks at four targets, each of which it reads once. Workgroups: ceil(count / 256). Iterations: 4.

fn work(i: u32) {
    let first = 4u * i;
    if first >= p.count {
        return;
    }
    var before = p.nowhere;
    if first > 0u {
        before = sorted[first - 1u].x;
    }
    var place = sorted[first].x;
    for (var k = 0u; k < 4u; k++) {
        let next = first + k + 1u;
        var behind = p.nowhere;
        if next < p.count {
            behind = sorted[next].x;
        }
        // Behind the last target there is nothing to note.
        if place < p.nowhere {
            if before != place {
                runs[2u * place] = next - 1u;
            }
            if behind != place {
                runs[2u * place + 1u] = next;
            }
        }
        before = place;
        place = behind;
    }
}
