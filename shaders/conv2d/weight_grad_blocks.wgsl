// Gradient of a convolution with respect to its filters, as a product of blocks (`conv2d/blocks_common.wgsl`,
// `tiles/loop.wgsl`):
//   dw[g*F + o, c, u, v] = sum over k = (n, i, j) of dy[n, g*F + o, i, j] * x[n, g*C + c, i*stride - padding + u*dilation, ..]
// A row of the product is a filter o of group g, a column a weight (c, u, v) of it; k goes over all positions of all images and
// is cut into parts.
//
// x:  [batch, in_channels, in_height, in_width]
// dy: [batch, out_channels, out_height, out_width], in quads
// dw: [splits, out_channels, in_channels / groups, KERNEL_HEIGHT, KERNEL_WIDTH]: partial sums, which a second kernel adds in
//     ascending order
//
// area_reciprocal, width_reciprocal: of out_height * out_width, of out_width.
// Grid: splits * groups * ceil(out_channels / groups / SIDE) * ceil(in_channels / groups * TAPS / SIDE) workgroups, folded freely.

const A_ALONG_DEPTH: bool = true;
const B_ALONG_DEPTH: bool = true;
const A_IN_ROWS: bool = true;
const B_IN_ROWS: bool = false;

alias Phase = u32;

fn weights() -> u32 {
    return p.in_channels / p.groups * TAPS;
}

fn rows_of_product() -> u32 {
    return p.out_channels / p.groups;
}

fn find_block(group_index: u32) -> Block {
    return cut(block_at(place_of(group_index, rows_of_product(), weights()), 1u), p.batch * p.out_height * p.out_width);
}

// Rows and columns past the edge read the last one; their sums are never stored.
fn a_slot(block: Block, row: u32) -> Slot {
    let out_channel = vec4<u32>(block.out_channel) + min(vec4<u32>(row) + LANES, vec4<u32>(rows_of_product() - 1u));
    return Slot(out_channel * (p.out_height * p.out_width), vec4<u32>(), vec4<u32>());
}

fn b_slot(block: Block, column: u32) -> Slot {
    let weight = min(vec4<u32>(column) + LANES, vec4<u32>(weights() - 1u));
    let channel = weight / TAPS;
    let tap = weight - channel * TAPS;
    let u = tap / KERNEL_WIDTH;
    let v = tap - u * KERNEL_WIDTH;
    // Positions left of or above the plane wrap to huge numbers and fail the one test against the size.
    let row = u * DILATION_HEIGHT - vec4<u32>(p.padding_height);
    let line = v * DILATION_WIDTH - vec4<u32>(p.padding_width);
    let plane = (vec4<u32>(block.in_channel) + channel) * p.in_height;
    return Slot((plane + row) * p.in_width + line, row, line);
}

fn dy_at(at: u32) -> f32 {
    return from_b(dy[at / 4u][at % 4u]);
}

// Four positions of a filter's plane, as a first one says, or all four; past the end, any.
fn dy_quad(row: u32, at: vec4<u32>) -> vec4<f32> {
    if WHOLE {
        let quad = dy[(row + at.x) / 4u];
        return vec4<f32>(from_b(quad.x), from_b(quad.y), from_b(quad.z), from_b(quad.w));
    }
    return vec4<f32>(dy_at(row + at.x), dy_at(row + at.y), dy_at(row + at.z), dy_at(row + at.w));
}

fn a_patch(block: Block, slot: Slot, k: u32) -> mat4x4<f32> {
    let area = p.out_height * p.out_width;
    let position = vec4<u32>(block.begin + k) + LANES;
    let at = position + divide_quad(position, area, p.area_reciprocal) * ((p.out_channels - 1u) * area);
    return mat4x4<f32>(dy_quad(slot.at.x, at), dy_quad(slot.at.y, at), dy_quad(slot.at.z, at), dy_quad(slot.at.w, at));
}

// Of images, lines and columns of dy's positions in x.
fn strides() -> vec3<u32> {
    return vec3<u32>(p.in_channels * p.in_height * p.in_width, STRIDE_HEIGHT * p.in_width, STRIDE_WIDTH);
}

fn b_start(block: Block, k: u32) -> Walk {
    let area = p.out_height * p.out_width;
    return walk_of(block.begin + k, area, p.area_reciprocal, p.out_width, p.width_reciprocal, strides());
}

fn b_next(block: Block, walk: Walk) -> Walk {
    return walk_on(walk, p.out_height, p.out_width, strides());
}

// Four neighbouring weights' elements of x for a position; those outside are read anywhere and are 0.
fn b_quad(block: Block, slot: Slot, walk: Walk) -> vec4<f32> {
    let row_inside = slot.row + vec4<u32>(walk.middle * STRIDE_HEIGHT) < vec4<u32>(p.in_height);
    let line_inside = slot.column + vec4<u32>(walk.inner * STRIDE_WIDTH) < vec4<u32>(p.in_width);
    let at = slot.at + vec4<u32>(walk.at);
    let read = vec4<f32>(from_a(x[at.x]), from_a(x[at.y]), from_a(x[at.z]), from_a(x[at.w]));
    return select(vec4<f32>(), read, row_inside & line_inside);
}

fn store_one(block: Block, row: u32, column: u32, value: f32) {
    if column < weights() {
        let index = (block.part * p.out_channels + block.out_channel + row) * weights() + column;
        dw[index] = epilogue(value, index);
    }
}
