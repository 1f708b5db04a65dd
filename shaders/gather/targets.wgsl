// Where the element at each place of an index belongs: targets[i] = the linear place that index[i] names among `nowhere` places,
// or `nowhere` where it leaves its axis. Besides, the run of each place is made empty.
//
// index    [count], u32, or i32 read as such: negative ones are out of range, too
// targets  [count] (written)
// runs     [nowhere], (begin, end) of each place (written)
//
// Axes are innermost first: (length in the index, stride in what the index names, or 0 for its own axis).
// Asks for: `const ONE_AXIS`, true if only the first has elements side by side. Workgroups: ceil(max(count, nowhere) / 64). Iterations: 8.

fn work(i: u32) {
    if i < p.nowhere {
        runs[i] = vec2<u32>();
    }
    if i >= p.count {
        return;
    }
    var at = i * p.axes[0].y;
    if !ONE_AXIS {
        at = 0u;
        var rest = i;
        for (var k = 0u; k < 8u && rest > 0u; k++) {
            let axis = p.axes[k];
            at += rest % axis.x * axis.y;
            rest /= axis.x;
        }
    }
    let place = index[i];
    targets[i] = select(at + place * p.stride, p.nowhere, place >= p.length || place == p.padding);
}
