// Convolution over two axes, NCHW:
//   y[n, o, i, j] = epilogue(sum over (c, u, v) of w[o, c, u, v] * x[n, g*C + c, i*stride - padding + u*dilation, j*stride - padding + v*dilation])
// with C = in_channels / groups and g the group of o. Positions outside the plane count as 0 (0 * w, so an infinite weight
// gives NaN there). Order of the sum: c, then u, then v.
// An invocation keeps ROWS output channels x COLUMNS neighbouring output columns in registers and reads each stretch of an input row
// once for all taps of that row. `conv2d/sums.wgsl` or `conv2d/sums_subgroup.wgsl` has these sums; the entry is that of `shared/team.wgsl`.
//
// x: [batch, in_channels, in_height, in_width]
// w: [out_channels, in_channels / groups, kernel_height, KERNEL_WIDTH]
// y: [batch, out_channels, out_height, out_width], through `epilogue`
//
// Constants:
//   KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH   of the convolution
//   COLUMNS = 7                                  output columns of an invocation
// Grid: groups * ceil(out_channels / groups / ROWS) * ceil(batch * out_height * ceil(out_width / COLUMNS) / GROUP) workgroups,
//       folded freely over x and y.
// The sum runs over the channels [begin, end) of a group; part p of a split sum goes to y + p * elements.
// Loops: (end - begin) * (1 + kernel_height) + ROWS iterations an invocation. Those that surely have a round end where one does.

const WINDOW: u32 = (COLUMNS - 1u) * STRIDE_WIDTH + (KERNEL_WIDTH - 1u) * DILATION_WIDTH + 1u;

// The column of a window that tap v brings to column j.
fn tap_column(v: u32, j: u32) -> u32 {
    return j * STRIDE_WIDTH + v * DILATION_WIDTH;
}

fn work(group_index: u32, lane: u32) {
    let channels = p.in_channels / p.groups;
    let filters = p.out_channels / p.groups;
    let segments = (p.out_width + COLUMNS - 1u) / COLUMNS;
    let spans = p.batch * p.out_height * segments;
    let row_tiles = (filters + ROWS - 1u) / ROWS;
    let span_tile = group_index / (row_tiles * p.groups);
    let row_tile = group_index - span_tile * (row_tiles * p.groups);
    if span_tile * GROUP >= spans {
        return;
    }
    let weight_group = row_tile / row_tiles;
    let filter_begin = (row_tile - weight_group * row_tiles) * ROWS;

    // Invocations past the last span repeat it and store nothing.
    let span = min(span_tile * GROUP + lane, spans - 1u);
    let line = span / segments;
    let image = line / p.out_height;
    let out_row = line - image * p.out_height;
    let out_column = (span - line * segments) * COLUMNS;
    let first_row = out_row * p.stride_height - p.padding_height;
    let first_column = out_column * STRIDE_WIDTH - p.padding_width;
    let area = p.in_height * p.in_width;
    var x_plane = (image * p.in_channels + weight_group * channels + p.begin) * area;

    let filter_size = channels * p.kernel_height * KERNEL_WIDTH;
    var w_at: array<u32, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        w_at[i] = (weight_group * filters + min(filter_begin + channel_of(i, lane), filters - 1u)) * filter_size;
    }
    var w_step = p.begin * p.kernel_height * KERNEL_WIDTH;

    var sum: Sums;
    var channel = p.begin;
    loop {
        var row = first_row;
        var u = 0u;
        loop {
            // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
            let row_inside = row < p.in_height;
            let x_line = x_plane + row * p.in_width;
            var window: array<f32, WINDOW>;
            for (var t = 0u; t < WINDOW; t++) {
                let column = first_column + t;
                let inside = row_inside && column < p.in_width;
                window[t] = select(0.0, from_a(x[select(0u, x_line + column, inside)]), inside);
            }
            add_taps(&sum, &w_at, w_step, &window);
            w_step += KERNEL_WIDTH;
            row += p.dilation_height;
            u++;
            if u >= p.kernel_height {
                break;
            }
        }
        x_plane += area;
        channel++;
        if channel >= p.end {
            break;
        }
    }

    if span_tile * GROUP + lane < spans {
        let filter_end = min(filter_begin + ROWS, filters);
        var out_channel = filter_begin;
        loop {
            let at = (((p.part * p.batch + image) * p.out_channels + weight_group * filters + out_channel) * p.out_height + out_row) * p.out_width;
            for (var j = 0u; j < COLUMNS; j++) {
                let column = out_column + j;
                if column < p.out_width {
                    y[at + column] = epilogue(first_sum(&sum, j), at + column);
                }
            }
            move_up(&sum);
            out_channel++;
            if out_channel >= filter_end {
                break;
            }
        }
    }
}
