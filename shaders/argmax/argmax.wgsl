// Index of the largest element along axes, or with `const LEAST: bool` of the smallest: the first of equal ones, or with `const LAST: bool`
// the last, NaN counting as largest and smallest.
//
// First pass: one invocation a run of at most `run` of an output's elements; it writes the index of the run's largest.
// Second pass (where there are several runs): one invocation an output compares the runs' winners in order.
// This text is shared: `argmax/first.wgsl` or `argmax/second.wgsl` follows it.
//
// Put in front of this text: `alias S`, the element type, and `is_nan`, which is false for integers.
//
// Bindings: 0 input (read), then those of the pass.
// Workgroups: ceil(outputs * runs / 64); second pass ceil(outputs / 64). Iterations: run + 16.

fn kept_index(o: u32) -> u32 {
    var rest = o;
    var at = 0u;
    for (var axis = 0u; axis < 4u && rest > 0u; axis++) {
        let pair = p.kept[axis];
        at += (rest % pair.x) * pair.y;
        rest /= pair.x;
        at += (rest % pair.z) * pair.w;
        rest /= pair.z;
    }
    return at;
}

fn within_index(r: u32) -> u32 {
    var rest = r % p.within[0].x;
    var at = rest * p.within[0].y;
    rest = r / p.within[0].x;
    at += (rest % p.within[0].z) * p.within[0].w;
    rest /= p.within[0].z;
    at += (rest % p.within[1].x) * p.within[1].y;
    rest /= p.within[1].x;
    at += (rest % p.within[1].z) * p.within[1].w;
    rest /= p.within[1].z;
    at += (rest % p.within[2].x) * p.within[2].y;
    rest /= p.within[2].x;
    at += (rest % p.within[2].z) * p.within[2].w;
    rest /= p.within[2].z;
    at += (rest % p.within[3].x) * p.within[3].y;
    rest /= p.within[3].x;
    return at + (rest % p.within[3].z) * p.within[3].w;
}

// True if `x` takes the place of an earlier `best`.
fn wins(x: S, best: S) -> bool {
    let better = select(x > best, x < best, LEAST) || (LAST && x == best);
    return (is_nan(x) && (LAST || !is_nan(best))) || (!is_nan(best) && better);
}
