// Gradient of a convolution with respect to its input, NCHW, as a gather (no atomics, one owner an output):
//   dx[n, g*C + c, h, l] = epilogue(sum over (o, u, v) of w[g*F + o, c, u, v] * dy[n, g*F + o, i, j])
// over the taps with i * stride + u * dilation - padding = h, j alike, and (i, j) inside the output; C = in_channels / groups,
// F = out_channels / groups. Positions outside count as 0 (0 * w). Order of the sum: o, then u, then v (descending column).
// A stride splits the input into stride_height * STRIDE_WIDTH phases; a workgroup works on one of them, so that every tap
// either contributes to all of its elements or is skipped. `conv2d/sums.wgsl` or `conv2d/sums_subgroup.wgsl` has the
// sums of an invocation; the entry is that of `shared/team.wgsl`.
//
// dy: [batch, out_channels, out_height, out_width]
// w:  [out_channels, in_channels / groups, kernel_height, KERNEL_WIDTH]
// dx: [batch, in_channels, in_height, in_width], through `epilogue`
//
// Constants:
//   KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH   of the convolution
//   COLUMNS = 4                                  input columns of an invocation, STRIDE_WIDTH apart
// Grid: stride_height * STRIDE_WIDTH * groups * ceil(in_channels / groups / ROWS)
//       * ceil(batch * ceil(in_height / stride_height) * ceil(ceil(in_width / STRIDE_WIDTH) / COLUMNS) / GROUP) workgroups,
//       folded freely over x and y.
// The sum runs over the output channels [begin, end) of a group; part p of a split sum goes to dx + p * elements.
// Loops: (end - begin) * (1 + kernel_height) + ROWS iterations an invocation. Those that surely have a round end where one does.

const REACH: u32 = (KERNEL_WIDTH - 1u) * DILATION_WIDTH;
const WINDOW: u32 = REACH + COLUMNS;

// The column of a window that tap v brings to column j, where the stride is 1.
fn tap_column(v: u32, j: u32) -> u32 {
    return (KERNEL_WIDTH - 1u - v) * DILATION_WIDTH + j;
}

// An element of a line of dy, 0 outside of it.
fn element(line: u32, column: u32, row_inside: bool) -> f32 {
    let inside = row_inside && column < p.out_width;
    return select(0.0, from_a(dy[select(0u, line + column, inside)]), inside);
}

fn work(group_index: u32, lane: u32) {
    let channels = p.in_channels / p.groups;
    let filters = p.out_channels / p.groups;
    let phase_rows = (p.in_height + p.stride_height - 1u) / p.stride_height;
    let segments = ((p.in_width + STRIDE_WIDTH - 1u) / STRIDE_WIDTH + COLUMNS - 1u) / COLUMNS;
    let spans = p.batch * phase_rows * segments;
    let row_tiles = (channels + ROWS - 1u) / ROWS;
    let kinds = row_tiles * p.groups * p.stride_height * STRIDE_WIDTH;
    let span_tile = group_index / kinds;
    let kind = group_index - span_tile * kinds;
    if span_tile * GROUP >= spans {
        return;
    }
    let phase = kind / (row_tiles * p.groups);
    let row_tile = kind - phase * (row_tiles * p.groups);
    let phase_row = phase / STRIDE_WIDTH;
    let phase_column = phase - phase_row * STRIDE_WIDTH;
    let weight_group = row_tile / row_tiles;
    let channel_begin = (row_tile - weight_group * row_tiles) * ROWS;

    // Invocations past the last span repeat it and store nothing.
    let span = min(span_tile * GROUP + lane, spans - 1u);
    let line = span / segments;
    let image = line / phase_rows;
    let line_row = line - image * phase_rows;
    let line_column = (span - line * segments) * COLUMNS;
    let area = p.out_height * p.out_width;
    var dy_plane = (image * p.out_channels + weight_group * filters + p.begin) * area;

    let taps = p.kernel_height * KERNEL_WIDTH;
    var w_at: array<u32, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        w_at[i] = weight_group * filters * channels * taps + min(channel_begin + channel_of(i, lane), channels - 1u) * taps;
    }
    var w_plane = p.begin * channels * taps;
    // Multiples of the stride that keep the numerators below positive.
    let lift_row = p.kernel_height * p.dilation_height;
    let lift_column = KERNEL_WIDTH * DILATION_WIDTH;

    var sum: Sums;
    var out_channel = p.begin;
    loop {
        var u = 0u;
        loop {
            let row_numerator = phase_row + p.padding_height + lift_row * p.stride_height - u * p.dilation_height;
            if row_numerator % p.stride_height == 0u {
                // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
                let row = row_numerator / p.stride_height - lift_row + line_row;
                let row_inside = row < p.out_height;
                let dy_line = dy_plane + row * p.out_width;
                let w_step = w_plane + u * KERNEL_WIDTH;
                if STRIDE_WIDTH == 1u {
                    let first_column = line_column + p.padding_width - REACH;
                    var window: array<f32, WINDOW>;
                    for (var t = 0u; t < WINDOW; t++) {
                        window[t] = element(dy_line, first_column + t, row_inside);
                    }
                    add_taps(&sum, &w_at, w_step, &window);
                } else {
                    for (var v = 0u; v < KERNEL_WIDTH; v++) {
                        let numerator = phase_column + p.padding_width + lift_column * STRIDE_WIDTH - v * DILATION_WIDTH;
                        if numerator % STRIDE_WIDTH == 0u {
                            let first_column = numerator / STRIDE_WIDTH - lift_column + line_column;
                            var values: array<f32, COLUMNS>;
                            for (var j = 0u; j < COLUMNS; j++) {
                                values[j] = element(dy_line, first_column + j, row_inside);
                            }
                            add_tap(&sum, &w_at, w_step + v, &values);
                        }
                    }
                }
            }
            u++;
            if u >= p.kernel_height {
                break;
            }
        }
        dy_plane += area;
        w_plane += channels * taps;
        out_channel++;
        if out_channel >= p.end {
            break;
        }
    }

    let in_row = line_row * p.stride_height + phase_row;
    if span_tile * GROUP + lane < spans && in_row < p.in_height {
        let channel_end = min(channel_begin + ROWS, channels);
        var channel = channel_begin;
        loop {
            let at = (((p.part * p.batch + image) * p.in_channels + weight_group * channels + channel) * p.in_height + in_row) * p.in_width;
            for (var j = 0u; j < COLUMNS; j++) {
                let column = (line_column + j) * STRIDE_WIDTH + phase_column;
                if column < p.in_width {
                    dx[at + column] = epilogue(first_sum(&sum, j), at + column);
                }
            }
            move_up(&sum);
            channel++;
            if channel >= channel_end {
                break;
            }
        }
    }
}
