// Counts the steps that an average of weights follows (`optim/average.wgsl`), and says what becomes of it in this one.
//
// counts    the steps so far, once for each invocation, so that none waits for another; then [parameters], weights taken so far
// shares    [parameters], the share of the present weight in the new average, or the number of the copy that it becomes; -1 for
//           nothing: the step is skipped, or none of those that are averaged
// status    as `optim/tally.wgsl` left it
// operands  at word p.word 1 - decay, and how shares go: 0 always that one, 1 at least 9 / (10 + n) behind n weights, 2 equal ones
//
// Sizes: p.parameters; p.start, the first step that counts, and p.every; p.copies that are kept, 0 for an average.
// One workgroup. Iterations: parameters / 64.

fn share_of(count: u32) -> f32 {
    let settings = factor(p.word / 4u);
    if p.copies > 0u {
        return f32(count % p.copies);
    }
    if count == 0u {
        return 1.0;
    }
    if settings.y == 2.0 {
        return 1.0 / f32(count + 1u);
    }
    return select(settings.x, max(settings.x, 9.0 / (10.0 + f32(count))), settings.y == 1.0);
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    let done = status[0].z == 0.0;
    let steps = counts[lane] + 1u;
    if done {
        counts[lane] = steps;
    }
    let taken = done && steps >= p.start && (steps - p.start) % p.every == 0u;
    for (var number = lane; number < p.parameters; number += 64u) {
        var share = -1.0;
        if taken {
            let count = counts[64u + number];
            counts[64u + number] = count + 1u;
            share = share_of(count);
        }
        shares[number] = share;
    }
}
