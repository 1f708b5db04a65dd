// What a strip of the result sees of a row of the image: for `conv2d/depthwise.wgsl` and `conv2d/depthwise_weight_grad.wgsl`.

// Rows of the result that a row of the image takes part in.
const ACTIVE: u32 = (KERNEL_HEIGHT + STRIDE_HEIGHT - 1u) / STRIDE_HEIGHT;
const WINDOW: u32 = (COLUMNS - 1u) * STRIDE_WIDTH + KERNEL_WIDTH;
// Elements of the first quad before the window.
const BEFORE: u32 = (4u - PADDING_WIDTH % 4u) % 4u;
const QUADS: u32 = (BEFORE + WINDOW + 3u) / 4u;

// Reads columns left .. left + WINDOW of the line of x that begins at `line`; what lies outside counts as 0.
fn read_window(window: ptr<function, array<f32, 4u * QUADS>>, line: u32, left: u32, row_inside: bool) {
    if WHOLE_X {
        for (var k = 0u; k < QUADS; k++) {
            let column = left - BEFORE + 4u * k;
            let inside = row_inside && column < p.in_width;
            let quad = x[select(0u, line + column, inside) / 4u];
            (*window)[4u * k] = select(0.0, from_a(quad.x), inside);
            (*window)[4u * k + 1u] = select(0.0, from_a(quad.y), inside);
            (*window)[4u * k + 2u] = select(0.0, from_a(quad.z), inside);
            (*window)[4u * k + 3u] = select(0.0, from_a(quad.w), inside);
        }
    } else {
        for (var k = BEFORE; k < BEFORE + WINDOW; k++) {
            let column = left - BEFORE + k;
            let inside = row_inside && column < p.in_width;
            let at = select(0u, line + column, inside);
            (*window)[k] = select(0.0, from_a(x[at / 4u][at % 4u]), inside);
        }
    }
}
