// Convolution of images with few channels (1 to 4, one group), NCHW, for GPUs: the first layer of a network, where a product of
// blocks would be mostly padding.
//   y[n, o, i, j] = epilogue(sum over (c, u, v) of w[o, c, u, v] * x[n, c, i*stride - padding + u*dilation, ..])
// Positions outside the plane count as 0. Order of the sum: c, then u, then v by its rest modulo STEP.
//
// A workgroup keeps the weights of 16 filters in workgroup memory; an invocation owns 4 neighbouring columns of a line of y
// for all of them, so that what it reads of x serves 16 filters.
//
// x: [batch, CHANNELS, in_height, in_width]
// w: [out_channels, CHANNELS, kernel_height, KERNEL_WIDTH]
// y: [batch, out_channels, out_height, out_width], through `epilogue`
//
// Constants:
//   KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH   of the convolution
//   CHANNELS, KERNEL_HEIGHT                      the same, for the size of workgroup memory: 64 * TAPS bytes
// Workgroup: (64, 1, 1).
// Grid: ceil(out_channels / 16) * ceil(batch * out_height * ceil(out_width / 4) / 64) workgroups, folded freely over x and y.
// Loops: CHANNELS * KERNEL_HEIGHT * (1 + 2 * KERNEL_WIDTH) + TAPS + 16 iterations an invocation at most.

const TAPS: u32 = CHANNELS * KERNEL_HEIGHT * KERNEL_WIDTH;
// True if taps STEP apart see the same pixels from neighbouring columns.
const SHARED: bool = STRIDE_WIDTH % DILATION_WIDTH == 0u;
const STEP: u32 = select(1u, STRIDE_WIDTH / DILATION_WIDTH, SHARED);
const GROUP: u32 = 64u;

// Four filters a quad, four quads a tap.
var<workgroup> weights: array<vec4<f32>, 4u * TAPS>;

// The sums of 16 filters for one column, the first in `a.x`.
struct Sums {
    a: vec4<f32>,
    b: vec4<f32>,
    c: vec4<f32>,
    d: vec4<f32>,
}

fn added(sums: Sums, at: u32, value: f32) -> Sums {
    return Sums(
        sums.a + weights[at] * value,
        sums.b + weights[at + 1u] * value,
        sums.c + weights[at + 2u] * value,
        sums.d + weights[at + 3u] * value,
    );
}

// The sums without the first, which has been stored.
fn moved(sums: Sums) -> Sums {
    return Sums(
        vec4<f32>(sums.a.yzw, sums.b.x),
        vec4<f32>(sums.b.yzw, sums.c.x),
        vec4<f32>(sums.c.yzw, sums.d.x),
        vec4<f32>(sums.d.yzw, 0.0),
    );
}

// A pixel of a line of x, or 0 outside.
fn pixel(x_line: u32, column: u32, row_inside: bool) -> f32 {
    let inside = row_inside && column < p.in_width;
    return select(0.0, from_a(x[select(0u, x_line + column, inside)]), inside);
}

fn weight(filter_begin: u32, row: u32, tap: u32) -> f32 {
    return from_b(w[min(filter_begin + row, p.out_channels - 1u) * TAPS + tap]);
}

@compute @workgroup_size(GROUP, 1, 1)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) group_count: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let group_index = group.x + group.y * group_count.x;
    let segments = (p.out_width + 3u) / 4u;
    let spans = p.batch * p.out_height * segments;
    let filter_tiles = (p.out_channels + 15u) / 16u;
    let span_tile = group_index / filter_tiles;
    if span_tile * GROUP >= spans {
        return;
    }
    let filter_begin = (group_index - span_tile * filter_tiles) * 16u;
    // Filters past the end repeat the last one and are not stored.
    for (var at = local; at < 4u * TAPS; at += GROUP) {
        let tap = at / 4u;
        let row = at % 4u * 4u;
        weights[at] = vec4<f32>(
            weight(filter_begin, row, tap),
            weight(filter_begin, row + 1u, tap),
            weight(filter_begin, row + 2u, tap),
            weight(filter_begin, row + 3u, tap),
        );
    }
    workgroupBarrier();

    // Invocations past the last span repeat it and store nothing.
    let span = min(span_tile * GROUP + local, spans - 1u);
    let line = span / segments;
    let image = line / p.out_height;
    let out_row = line - image * p.out_height;
    let out_column = (span - line * segments) * 4u;
    // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
    let first_row = out_row * p.stride_height - p.padding_height;
    let first_column = out_column * STRIDE_WIDTH - p.padding_width;

    var s0: Sums;
    var s1: Sums;
    var s2: Sums;
    var s3: Sums;
    for (var c = 0u; c < CHANNELS; c++) {
        for (var u = 0u; u < KERNEL_HEIGHT; u++) {
            let row = first_row + u * p.dilation_height;
            let row_inside = row < p.in_height;
            let x_line = ((image * CHANNELS + c) * p.in_height + row) * p.in_width;
            let line_at = (c * KERNEL_HEIGHT + u) * KERNEL_WIDTH;
            // Taps that lie STEP apart see each other's pixels, moved on by a column.
            for (var first = 0u; first < min(STEP, KERNEL_WIDTH); first++) {
                var column = first_column + first * DILATION_WIDTH;
                var x0 = pixel(x_line, column, row_inside);
                var x1 = pixel(x_line, column + STRIDE_WIDTH, row_inside);
                var x2 = pixel(x_line, column + 2u * STRIDE_WIDTH, row_inside);
                var x3 = pixel(x_line, column + 3u * STRIDE_WIDTH, row_inside);
                for (var v = first; v < KERNEL_WIDTH; v += STEP) {
                    let at = 4u * (line_at + v);
                    column += STEP * DILATION_WIDTH;
                    // Read before what is there is used: they are under way meanwhile.
                    let next = pixel(x_line, column + 3u * STRIDE_WIDTH, row_inside);
                    s0 = added(s0, at, x0);
                    s1 = added(s1, at, x1);
                    s2 = added(s2, at, x2);
                    s3 = added(s3, at, x3);
                    if SHARED {
                        x0 = x1;
                        x1 = x2;
                        x2 = x3;
                    } else {
                        x0 = pixel(x_line, column, row_inside);
                        x1 = pixel(x_line, column + STRIDE_WIDTH, row_inside);
                        x2 = pixel(x_line, column + 2u * STRIDE_WIDTH, row_inside);
                    }
                    x3 = next;
                }
            }
        }
    }

    if span_tile * GROUP + local >= spans {
        return;
    }
    let filter_end = min(filter_begin + 16u, p.out_channels);
    for (var out_channel = filter_begin; out_channel < filter_end; out_channel++) {
        let index = ((image * p.out_channels + out_channel) * p.out_height + out_row) * p.out_width + out_column;
        y[index] = epilogue(s0.a.x, index);
        if out_column + 1u < p.out_width {
            y[index + 1u] = epilogue(s1.a.x, index + 1u);
        }
        if out_column + 2u < p.out_width {
            y[index + 2u] = epilogue(s2.a.x, index + 2u);
        }
        if out_column + 3u < p.out_width {
            y[index + 3u] = epilogue(s3.a.x, index + 3u);
        }
        s0 = moved(s0);
        s1 = moved(s1);
        s2 = moved(s2);
        s3 = moved(s3);
    }
}
