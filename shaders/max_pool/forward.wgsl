// Max pooling over three axes: the first maximum of the elements of a window that lie inside, in row-major order; the last NaN
// wins over everything. Both results are handed over: the value, and its place (d * height + h) * width + w.
//
// x  [planes, depth, height, width]
//
// Workgroups: ceil(elements / 64). Iterations: kernel depth * (1 + kernel height * (1 + kernel width)).

fn is_not_number(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

fn work(index: u32) {
    if index >= p.elements {
        return;
    }
    let sizes = vec3<u32>(p.spans[0].x, p.spans[2].x, p.spans[4].x);
    let step = vec3<u32>(p.spans[1].x, p.spans[3].x, p.spans[5].x);
    var rest = index / p.spans[4].y;
    let columns = window_of(2u, index - rest * p.spans[4].y);
    var outer = rest / p.spans[2].y;
    let rows = window_of(1u, rest - outer * p.spans[2].y);
    let plane = outer / p.spans[0].y;
    let slices = window_of(0u, outer - plane * p.spans[0].y);
    let base = plane * sizes.x * sizes.y * sizes.z;
    var best = 0.0;
    var best_at = 0xffffffffu;
    var found_nan = false;
    for (var a = 0u; a < slices.y; a++) {
        let d = slices.x + a * step.x;
        if d >= sizes.x {
            continue;
        }
        for (var b = 0u; b < rows.y; b++) {
            let h = rows.x + b * step.y;
            if h >= sizes.y {
                continue;
            }
            let line = (d * sizes.y + h) * sizes.z;
            for (var c = 0u; c < columns.y; c++) {
                let w = columns.x + c * step.z;
                let inside = w < sizes.z;
                let at = line + w;
                let value = from_a(x[select(0u, base + at, inside)]);
                let value_nan = is_not_number(value);
                let better = inside && (value_nan || (!found_nan && (best_at == 0xffffffffu || value > best)));
                best = select(best, value, better);
                best_at = select(best_at, at, better);
                found_nan = found_nan || (inside && value_nan);
            }
        }
    }
    result_0(best, index);
    result_1(best_at, index);
}
