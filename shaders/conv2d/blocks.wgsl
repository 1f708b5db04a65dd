// Convolution over two axes, NCHW, as a product of blocks (`conv2d/blocks_common.wgsl`, `tiles/loop.wgsl`):
//   y[n, g*F + o, i, j] = epilogue(sum over k = (c, u, v) of w[g*F + o, k] * x[n, g*C + c, i*stride - padding + u*dilation, ..])
// A row of the product is a filter o of group g, a column a position (n, i, j) of the result; k goes over channels, then taps.
// Positions outside the plane count as 0.
//
// x: [batch, in_channels, in_height, in_width]
// w: [out_channels, in_channels / groups, KERNEL_HEIGHT, KERNEL_WIDTH], in quads
// y: [splits, batch, out_channels, out_height, out_width], through `epilogue`; partial sums with splits > 1
//
// area_reciprocal, width_reciprocal: of out_height * out_width, of out_width.
// Grid: splits * groups * ceil(out_channels / groups / SIDE) * ceil(batch * out_height * out_width / SIDE) workgroups,
//       folded freely over x and y.

const A_ALONG_DEPTH: bool = true;
const B_ALONG_DEPTH: bool = false;
const A_IN_ROWS: bool = true;
const B_IN_ROWS: bool = false;

alias Phase = u32;

fn positions() -> u32 {
    return p.batch * p.out_height * p.out_width;
}

fn rows_of_product() -> u32 {
    return p.out_channels / p.groups;
}

fn find_block(group_index: u32) -> Block {
    return cut(block_at(place_of(group_index, rows_of_product(), positions()), 1u), p.in_channels / p.groups * TAPS);
}

// Rows and columns past the edge read the last one; their sums are never stored.
fn a_slot(block: Block, row: u32) -> Slot {
    let depth = p.in_channels / p.groups * TAPS;
    let filter_row = vec4<u32>(block.out_channel) + min(vec4<u32>(row) + LANES, vec4<u32>(rows_of_product() - 1u));
    return Slot(filter_row * depth + vec4<u32>(block.begin), vec4<u32>(), vec4<u32>());
}

fn b_slot(block: Block, column: u32) -> Slot {
    let area = p.out_height * p.out_width;
    let position = min(vec4<u32>(column) + LANES, vec4<u32>(positions() - 1u));
    let image = divide_quad(position, area, p.area_reciprocal);
    let rest = position - image * area;
    let i = divide_quad(rest, p.out_width, p.width_reciprocal);
    let j = rest - i * p.out_width;
    // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
    let row = i * STRIDE_HEIGHT - vec4<u32>(p.padding_height);
    let line = j * STRIDE_WIDTH - vec4<u32>(p.padding_width);
    let plane = (image * p.in_channels + vec4<u32>(block.in_channel)) * (p.in_height * p.in_width);
    return Slot(plane + row * p.in_width + line, row, line);
}

fn w_at(at: u32) -> f32 {
    return from_b(w[at / 4u][at % 4u]);
}

// Four weights of a filter from k on; past the end, any.
fn w_quad(at: u32, k: u32) -> vec4<f32> {
    if WHOLE {
        let quad = w[at / 4u + k / 4u];
        return vec4<f32>(from_b(quad.x), from_b(quad.y), from_b(quad.z), from_b(quad.w));
    }
    return vec4<f32>(w_at(at + k), w_at(at + k + 1u), w_at(at + k + 2u), w_at(at + k + 3u));
}

fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(w_quad(slot.at.x, k), w_quad(slot.at.y, k), w_quad(slot.at.z, k), w_quad(slot.at.w, k));
}

// Of channels, lines and columns of taps in x.
fn strides() -> vec3<u32> {
    return vec3<u32>(p.in_height * p.in_width, DILATION_HEIGHT * p.in_width, DILATION_WIDTH);
}

fn b_start(block: Block, k: u32) -> Walk {
    let whole = block.begin + k;
    let channel = whole / TAPS;
    let tap = whole - channel * TAPS;
    let u = tap / KERNEL_WIDTH;
    let v = tap - u * KERNEL_WIDTH;
    let steps = strides();
    return Walk(channel, u, v, channel * steps.x + u * steps.y + v * steps.z);
}

fn b_next(block: Block, walk: Walk) -> Walk {
    return walk_on(walk, KERNEL_HEIGHT, KERNEL_WIDTH, strides());
}

// Four neighbouring positions under a tap; those outside are read anywhere and are 0.
fn b_quad(block: Block, slot: Slot, walk: Walk) -> vec4<f32> {
    let row_inside = slot.row + vec4<u32>(walk.middle * DILATION_HEIGHT) < vec4<u32>(p.in_height);
    let line_inside = slot.column + vec4<u32>(walk.inner * DILATION_WIDTH) < vec4<u32>(p.in_width);
    let i = slot.at + vec4<u32>(walk.at);
    let read = vec4<f32>(from_a(x[i.x]), from_a(x[i.y]), from_a(x[i.z]), from_a(x[i.w]));
    return select(vec4<f32>(), read, row_inside & line_inside);
}

fn store_one(block: Block, row: u32, position: u32, value: f32) {
    if position < positions() {
        let area = p.out_height * p.out_width;
        let image = divide(position, area, p.area_reciprocal);
        let plane = (block.part * p.batch + image) * p.out_channels + block.out_channel + row;
        let index = plane * area + position - image * area;
        y[index] = epilogue(value, index);
    }
}
