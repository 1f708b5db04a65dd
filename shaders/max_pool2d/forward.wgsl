// Max pooling over two axes:
//   y[n, c, i, j] = max over (u, v) of x[n, c, i*stride - padding + u, j*stride - padding + v]
// over the taps inside the plane. The winner is the first one in row-major order; the last NaN wins over everything.
// Padding never takes part; the host rejects shapes with windows that lie in it wholly.
//
// binding 0  x      [planes, in_height, in_width]    planes = batch * channels
// Both results, [planes, out_height, out_width], are handed over: the value, and the winner's place h * in_width + w.
//
// Constants (host prepends): GROUP = 64, invocations a workgroup; KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH
// of the pooling; COLUMNS = 4, neighbouring columns of an invocation.
// Grid: ceil(planes * out_height * ceil(out_width / COLUMNS) / GROUP) workgroups, folded freely over x and y.
// Loops: COLUMNS * (1 + KERNEL_HEIGHT * (1 + KERNEL_WIDTH)) iterations an invocation.
// Loops that surely have a round end where one does (see ARCHITECTURE.md).

struct Params {
    planes: u32,
    in_height: u32,
    in_width: u32,
    out_height: u32,
    out_width: u32,
    padding_height: u32,
    padding_width: u32,
}

@group(0) @binding(0) var<storage, read> x: array<A_TYPE>;
@group(0) @binding(15) var<uniform> p: Params;

fn is_nan(value: f32) -> bool {
    return (bitcast<u32>(value) & 0x7fffffffu) > 0x7f800000u;
}

@compute @workgroup_size(GROUP, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let span = (group.x + group.y * group_count.x) * GROUP + local;
    let segments = (p.out_width + COLUMNS - 1u) / COLUMNS;
    let line = span / segments;
    let plane = line / p.out_height;
    if plane >= p.planes {
        return;
    }
    let out_row = line - plane * p.out_height;
    let column_begin = (span - line * segments) * COLUMNS;
    let column_end = min(column_begin + COLUMNS, p.out_width);
    let base = plane * p.in_height * p.in_width;
    // Rows and columns left of or above the plane wrap to huge numbers and fail the one test against the size.
    let first_row = out_row * STRIDE_HEIGHT - p.padding_height;

    var out_column = column_begin;
    loop {
        let first_column = out_column * STRIDE_WIDTH - p.padding_width;
        let index = line * p.out_width + out_column;
        // -inf, in a form that constant evaluation accepts.
        var best = bitcast<f32>(0xff800000u | (index & 0u));
        var best_at = 0xffffffffu;
        var found_nan = false;
        for (var u = 0u; u < KERNEL_HEIGHT; u++) {
            let row = first_row + u;
            for (var v = 0u; v < KERNEL_WIDTH; v++) {
                let column = first_column + v;
                let inside = row < p.in_height && column < p.in_width;
                let at = row * p.in_width + column;
                let value = from_a(x[select(0u, base + at, inside)]);
                let value_nan = is_nan(value);
                let better = inside && (value_nan || !found_nan && (best_at == 0xffffffffu || value > best));
                best = select(best, value, better);
                best_at = select(best_at, at, better);
                found_nan = found_nan || (inside && value_nan);
            }
        }
        result_0(best, index);
        result_1(best_at, index);
        out_column++;
        if out_column >= column_end {
            break;
        }
    }
}
