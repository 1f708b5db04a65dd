// Gradient of a convolution with respect to its input, NCHW, as a product of blocks (`conv2d/blocks_common.wgsl`,
// `tiles/loop.wgsl`):
//   dx[n, g*C + c, h, l] = epilogue(sum over k = (o, u, v) of w[g*F + o, c, u, v] * dy[n, g*F + o, i, j])
// over the taps with i * stride + u * dilation - padding = h, j alike, and (i, j) inside the output.
// A stride divides the image into STRIDE_HEIGHT * STRIDE_WIDTH phases, each a product of its own over the taps that
// reach it: every FIRST-th + n * STEP-th tap. All are in one dispatch. A row of the product is a channel c of group g, a
// column a position of the phase; k goes over filters, then taps.
//
// dy: [batch, out_channels, out_height, out_width]
// w:  [out_channels, in_channels / groups, KERNEL_HEIGHT, KERNEL_WIDTH]
// dx: [splits, batch, in_channels, in_height, in_width], through `epilogue`; partial sums with splits > 1
//
// STEP_HEIGHT, STEP_WIDTH (constants): taps between those that reach a phase, stride / gcd(stride, dilation)
// area_reciprocal, width_reciprocal: of the positions of a phase, of those in a line of it.
// Grid: splits * groups * STRIDE_HEIGHT * STRIDE_WIDTH * ceil(in_channels / groups / SIDE)
//       * ceil(batch * ceil(in_height / STRIDE_HEIGHT) * ceil(in_width / STRIDE_WIDTH) / SIDE) workgroups, folded freely.
// Loops: STEP_HEIGHT + STEP_WIDTH more than `tiles/loop.wgsl`.

const A_ALONG_DEPTH: bool = false;
const B_ALONG_DEPTH: bool = false;
const A_IN_ROWS: bool = false;
const B_IN_ROWS: bool = false;
// True if every tap reaches every position, so that their number is known.
const ALL_TAPS: bool = STEP_HEIGHT == 1u && STEP_WIDTH == 1u;
const PHASES: u32 = STRIDE_HEIGHT * STRIDE_WIDTH;
// Outputs between those that neighbouring taps of a phase bring.
const BACK_HEIGHT: u32 = STEP_HEIGHT * DILATION_HEIGHT / STRIDE_HEIGHT;
const BACK_WIDTH: u32 = STEP_WIDTH * DILATION_WIDTH / STRIDE_WIDTH;

struct Phase {
    row: u32,
    column: u32,
    // The first tap that reaches the phase, the number of those that do, and 1 over it.
    first_u: u32,
    first_v: u32,
    taps: u32,
    lines: u32,
    line_taps: u32,
    taps_reciprocal: f32,
    line_reciprocal: f32,
}

fn phase_height() -> u32 {
    return (p.in_height + STRIDE_HEIGHT - 1u) / STRIDE_HEIGHT;
}

fn phase_width() -> u32 {
    return (p.in_width + STRIDE_WIDTH - 1u) / STRIDE_WIDTH;
}

fn rows_of_product() -> u32 {
    return p.in_channels / p.groups;
}

fn find_block(group_index: u32) -> Block {
    let place = place_of(group_index, rows_of_product(), p.batch * phase_height() * phase_width());
    let number = place.plane % PHASES;
    var phase: Phase;
    phase.row = number / STRIDE_WIDTH;
    phase.column = number - phase.row * STRIDE_WIDTH;
    // Lifted by multiples of the stride, so that no numerator is negative.
    let high = phase.row + p.padding_height + KERNEL_HEIGHT * DILATION_HEIGHT * STRIDE_HEIGHT;
    let wide = phase.column + p.padding_width + KERNEL_WIDTH * DILATION_WIDTH * STRIDE_WIDTH;
    var u = 0u;
    while u < STEP_HEIGHT && u < KERNEL_HEIGHT && (high - u * DILATION_HEIGHT) % STRIDE_HEIGHT != 0u {
        u++;
    }
    var v = 0u;
    while v < STEP_WIDTH && v < KERNEL_WIDTH && (wide - v * DILATION_WIDTH) % STRIDE_WIDTH != 0u {
        v++;
    }
    let lines = select((KERNEL_HEIGHT - min(u, KERNEL_HEIGHT) + STEP_HEIGHT - 1u) / STEP_HEIGHT, 0u, u >= STEP_HEIGHT);
    let line_taps = select((KERNEL_WIDTH - min(v, KERNEL_WIDTH) + STEP_WIDTH - 1u) / STEP_WIDTH, 0u, v >= STEP_WIDTH);
    phase.first_u = u;
    phase.first_v = v;
    phase.taps = max(lines * line_taps, 1u);
    phase.lines = max(lines, 1u);
    phase.line_taps = max(line_taps, 1u);
    phase.taps_reciprocal = 1.0 / f32(phase.taps);
    phase.line_reciprocal = 1.0 / f32(phase.line_taps);
    var block = block_at(place, PHASES);
    block.phase = phase;
    return cut(block, p.out_channels / p.groups * lines * line_taps);
}

// Rows and columns past the edge read the last one; their sums are never stored.
fn a_slot(block: Block, row: u32) -> Slot {
    let channel = min(vec4<u32>(row) + LANES, vec4<u32>(rows_of_product() - 1u));
    let first = block.out_channel * w_strides().x + block.phase.first_u * KERNEL_WIDTH + block.phase.first_v;
    return Slot(vec4<u32>(first) + channel * TAPS, vec4<u32>(), vec4<u32>());
}

fn b_slot(block: Block, column: u32) -> Slot {
    let area = phase_height() * phase_width();
    let position = min(vec4<u32>(column) + LANES, vec4<u32>(p.batch * area - 1u));
    let image = divide_quad(position, area, p.area_reciprocal);
    let rest = position - image * area;
    let line = divide_quad(rest, phase_width(), p.width_reciprocal);
    // The outputs that the first tap brings. Those left of or above the plane wrap to huge numbers and fail the one test
    // against the size.
    let lift_row = KERNEL_HEIGHT * DILATION_HEIGHT;
    let lift_column = KERNEL_WIDTH * DILATION_WIDTH;
    let high = block.phase.row + p.padding_height + lift_row * STRIDE_HEIGHT - block.phase.first_u * DILATION_HEIGHT;
    let wide = block.phase.column + p.padding_width + lift_column * STRIDE_WIDTH - block.phase.first_v * DILATION_WIDTH;
    let row = line + vec4<u32>(high / STRIDE_HEIGHT - lift_row);
    let right = rest - line * phase_width() + vec4<u32>(wide / STRIDE_WIDTH - lift_column);
    let plane = (image * p.out_channels + vec4<u32>(block.out_channel)) * (p.out_height * p.out_width);
    return Slot(plane + row * p.out_width + right, row, right);
}

fn start_of(block: Block, k: u32, strides: vec3<u32>) -> Walk {
    let whole = block.begin + k;
    let phase = block.phase;
    if ALL_TAPS {
        let filter_number = whole / TAPS;
        let tap = whole - filter_number * TAPS;
        let line = tap / KERNEL_WIDTH;
        let column = tap - line * KERNEL_WIDTH;
        return Walk(filter_number, line, column, filter_number * strides.x + line * strides.y + column * strides.z);
    }
    return walk_of(whole, phase.taps, phase.taps_reciprocal, phase.line_taps, phase.line_reciprocal, strides);
}

fn next_of(block: Block, walk: Walk, strides: vec3<u32>) -> Walk {
    if ALL_TAPS {
        return walk_on(walk, KERNEL_HEIGHT, KERNEL_WIDTH, strides);
    }
    return walk_on(walk, block.phase.lines, block.phase.line_taps, strides);
}

// Of filters, lines and columns of a phase's taps in w.
fn w_strides() -> vec3<u32> {
    return vec3<u32>(p.in_channels / p.groups * TAPS, STEP_HEIGHT * KERNEL_WIDTH, STEP_WIDTH);
}

fn w_quad(slot: Slot, walk: Walk) -> vec4<f32> {
    let i = slot.at + vec4<u32>(walk.at);
    return vec4<f32>(from_b(w[i.x]), from_b(w[i.y]), from_b(w[i.z]), from_b(w[i.w]));
}

fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    let first = start_of(block, k, w_strides());
    let second = next_of(block, first, w_strides());
    let third = next_of(block, second, w_strides());
    let last = next_of(block, third, w_strides());
    return mat4x4<f32>(w_quad(slot, first), w_quad(slot, second), w_quad(slot, third), w_quad(slot, last));
}

// The same in dy, where taps go backwards: numbers wrap.
fn dy_strides() -> vec3<u32> {
    return vec3<u32>(p.out_height * p.out_width, 0u - BACK_HEIGHT * p.out_width, 0u - BACK_WIDTH);
}

fn b_start(block: Block, k: u32) -> Walk {
    return start_of(block, k, dy_strides());
}

fn b_next(block: Block, walk: Walk) -> Walk {
    return next_of(block, walk, dy_strides());
}

// Those outside are read anywhere and are 0.
fn b_quad(block: Block, slot: Slot, walk: Walk) -> vec4<f32> {
    let row_inside = slot.row - vec4<u32>(walk.middle * BACK_HEIGHT) < vec4<u32>(p.out_height);
    let column_inside = slot.column - vec4<u32>(walk.inner * BACK_WIDTH) < vec4<u32>(p.out_width);
    let i = slot.at + vec4<u32>(walk.at);
    let read = vec4<f32>(from_a(dy[i.x]), from_a(dy[i.y]), from_a(dy[i.z]), from_a(dy[i.w]));
    return select(vec4<f32>(), read, row_inside & column_inside);
}

fn store_one(block: Block, channel: u32, position: u32, value: f32) {
    let area = phase_height() * phase_width();
    let image = divide(position, area, p.area_reciprocal);
    let rest = position - image * area;
    let line = divide(rest, phase_width(), p.width_reciprocal);
    let row = line * STRIDE_HEIGHT + block.phase.row;
    let column = (rest - line * phase_width()) * STRIDE_WIDTH + block.phase.column;
    if image < p.batch && row < p.in_height && column < p.in_width {
        let plane = (block.part * p.batch + image) * p.in_channels + block.in_channel + channel;
        let index = (plane * p.in_height + row) * p.in_width + column;
        dx[index] = epilogue(value, index);
    }
}
