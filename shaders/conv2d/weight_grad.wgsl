// Gradient of a convolution with respect to its weights, NCHW:
//   dw[s, o, c, u, v] = epilogue(sum over (n, i) in part s and over j of
//                       dy[n, o, i, j] * x[n, g*C + c, i*stride - padding + u*dilation, j*stride - padding + v*dilation])
// with C = in_channels / groups and g the group of o. Positions outside the plane count as 0 (dy * 0). Each row (n, i) of dy is cut into
// segments of segment_width columns, numbered (n * out_height + i) * segments + segment; part s has the segments
// [s * split_lines, (s + 1) * split_lines). Order of the sum: segments ascending, then j.
// An invocation keeps ROWS output channels x LINES strips of TAPS taps in registers: a strip is a part of the row of taps of a pair
// (c, u). Along j the taps of a strip slide through a window in registers, so a step loads STRIDE_WIDTH new elements a strip.
// `conv2d/weight_sums.wgsl` or `conv2d/weight_sums_subgroup.wgsl` has these sums; the entry is that of `shared/team.wgsl`.
//
// x:  [batch, in_channels, in_height, in_width]
// dy: [batch, out_channels, out_height, out_width]
// dw: [splits, out_channels, in_channels / groups, kernel_height, KERNEL_WIDTH]: partial sums, which a second kernel adds in
//     ascending order
//
// Constants:
//   KERNEL_WIDTH, STRIDE_WIDTH, DILATION_WIDTH   of the convolution
//   LINES = 2                                    strips of an invocation
//   TAPS                                         taps of a strip, few enough for registers
// Grid: splits * groups * ceil(out_channels / groups / ROWS) * ceil(in_channels / groups * kernel_height * TAP_PARTS / (GROUP * LINES))
//       workgroups, folded freely over x and y.
// Loops: split_lines * (1 + segment_width) + ROWS iterations an invocation: the host picks splits so that this is below 60,000. No part
// and no segment is empty: loops that surely have a round end where one does.

const WINDOW: u32 = (TAPS - 1u) * DILATION_WIDTH + 1u;
// Strips of a row of taps; the last may have fewer taps.
const TAP_PARTS: u32 = (KERNEL_WIDTH + TAPS - 1u) / TAPS;

// An element of a line of x, 0 outside of it.
fn element(line: u32, column: u32, row_inside: bool) -> f32 {
    let inside = row_inside && column < p.in_width;
    return select(0.0, from_a(x[select(0u, line + column, inside)]), inside);
}

fn work(group_index: u32, lane: u32) {
    let channels = p.in_channels / p.groups;
    let filters = p.out_channels / p.groups;
    let pairs = channels * p.kernel_height;
    let strips = pairs * TAP_PARTS;
    let strip_tiles = (strips + GROUP * LINES - 1u) / (GROUP * LINES);
    let row_tiles = (filters + ROWS - 1u) / ROWS;
    let row_tile_index = group_index / strip_tiles;
    let split = row_tile_index / (row_tiles * p.groups);
    if split >= p.splits {
        return;
    }
    let row_tile = row_tile_index - split * (row_tiles * p.groups);
    let weight_group = row_tile / row_tiles;
    let filter_begin = (row_tile - weight_group * row_tiles) * ROWS;

    // Strips and channels past the end repeat the last one and are not stored.
    let strip_begin = (group_index - row_tile_index * strip_tiles) * GROUP * LINES + lane;
    let area = p.in_height * p.in_width;
    var x_plane: array<u32, LINES>;
    var tap_row: array<u32, LINES>;
    var tap_column: array<u32, LINES>;
    for (var i = 0u; i < LINES; i++) {
        let own = min(strip_begin + i * GROUP, strips - 1u);
        let pair = own / TAP_PARTS;
        tap_column[i] = (own - pair * TAP_PARTS) * TAPS * DILATION_WIDTH;
        let channel = pair / p.kernel_height;
        x_plane[i] = (weight_group * channels + channel) * area;
        tap_row[i] = (pair - channel * p.kernel_height) * p.dilation_height - p.padding_height;
    }
    let out_area = p.out_height * p.out_width;
    var dy_plane: array<u32, LOADS>;
    for (var i = 0u; i < LOADS; i++) {
        dy_plane[i] = (weight_group * filters + min(filter_begin + channel_of(i, lane), filters - 1u)) * out_area;
    }

    var sum: Sums;
    let line_end = min((split + 1u) * p.split_lines, p.batch * p.out_height * p.segments);
    var line = split * p.split_lines;
    loop {
        let out_line = line / p.segments;
        let image = out_line / p.out_height;
        let out_row = out_line - image * p.out_height;
        let column_begin = (line - out_line * p.segments) * p.segment_width;
        let column_end = min(column_begin + p.segment_width, p.out_width);
        var dy_at = image * p.out_channels * out_area + out_row * p.out_width + column_begin;
        // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
        var column = column_begin * STRIDE_WIDTH - p.padding_width;
        var row_inside: array<bool, LINES>;
        var x_line: array<u32, LINES>;
        var windows: array<array<f32, WINDOW>, LINES>;
        for (var i = 0u; i < LINES; i++) {
            let row = out_row * p.stride_height + tap_row[i];
            row_inside[i] = row < p.in_height;
            x_line[i] = image * p.in_channels * area + x_plane[i] + row * p.in_width;
            for (var t = STRIDE_WIDTH; t < WINDOW; t++) {
                windows[i][t] = element(x_line[i], column + tap_column[i] + t - STRIDE_WIDTH, row_inside[i]);
            }
        }
        var out_column = column_begin;
        loop {
            for (var i = 0u; i < LINES; i++) {
                for (var t = 0u; t < WINDOW; t++) {
                    if t + STRIDE_WIDTH < WINDOW {
                        windows[i][t] = windows[i][min(t + STRIDE_WIDTH, WINDOW - 1u)];
                    } else {
                        windows[i][t] = element(x_line[i], column + tap_column[i] + t, row_inside[i]);
                    }
                }
            }
            add_position(&sum, &dy_plane, dy_at, &windows);
            dy_at++;
            column += STRIDE_WIDTH;
            out_column++;
            if out_column >= column_end {
                break;
            }
        }
        line++;
        if line >= line_end {
            break;
        }
    }

    let filter_end = min(filter_begin + ROWS, filters);
    var out_channel = filter_begin;
    loop {
        let at = (split * p.out_channels + weight_group * filters + out_channel) * pairs * KERNEL_WIDTH;
        for (var i = 0u; i < LINES; i++) {
            let own = strip_begin + i * GROUP;
            if own < strips {
                let pair = own / TAP_PARTS;
                let first = (own - pair * TAP_PARTS) * TAPS;
                for (var v = 0u; v < TAPS; v++) {
                    if TAP_PARTS * TAPS == KERNEL_WIDTH || first + v < KERNEL_WIDTH {
                        let index = at + pair * KERNEL_WIDTH + first + v;
                        dw[index] = epilogue(first_sum(&sum, i, v), index);
                    }
                }
            }
            move_up(&sum, i);
        }
        out_channel++;
        if out_channel >= filter_end {
            break;
        }
    }
}
