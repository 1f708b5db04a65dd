// Gradient of slices picked by an index vector: result[o, v, i] = sum over the positions r that picked v, in order, of
// grad[o, r, i]. The positions are sorted by what they pick; each place of the axis knows its run of them.
//
// An invocation forms one element, or with `const WIDE` four. A long run is split over several dispatches (sorted positions
// from first to last in each), which add to what earlier ones left.
//
// order   [count], sorted positions
// runs    [length], (begin, end) of each place
// grad    [outer, count, inner], f32
// result  [outer, length, inner], f32
//
// Asks for: `const WIDE: bool`; `store(at, value)`. Workgroups: ceil(units / 64). Iterations: last - first.

fn work(unit: u32) {
    if unit >= p.units {
        return;
    }
    let width = select(1u, 4u, WIDE);
    let row = unit / p.columns;
    let column = (unit - row * p.columns) * width;
    let outer = row / p.length;
    let run = runs[row - outer * p.length];
    let at = row * p.inner + column;
    var total = vec4<f32>(0.0);
    if p.add == 1u {
        total.x = result[at];
        if WIDE {
            total = vec4<f32>(total.x, result[at + 1u], result[at + 2u], result[at + 3u]);
        }
    }
    let last = min(run.y, p.last);
    for (var s = max(run.x, p.first); s < last; s++) {
        let start = (outer * p.count + order[s]) * p.inner + column;
        total.x += grad[start];
        if WIDE {
            total.y += grad[start + 1u];
            total.z += grad[start + 2u];
            total.w += grad[start + 3u];
        }
    }
    store(at, total.x);
    if WIDE {
        store(at + 1u, total.y);
        store(at + 2u, total.z);
        store(at + 3u, total.w);
    }
}
