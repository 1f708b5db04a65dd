// Gradient of max pooling over two axes where windows overlap, for GPUs: a workgroup owns a tile of TILE_HEIGHT x TILE_WIDTH
// elements of dx. It finds the winner of every window that reaches the tile once, and keeps it with its gradient in
// workgroup memory; then each element adds up the windows that it wins, in row-major order, as in `max_pool2d/backward.wgsl`.
//
// x   [planes, in_height, in_width]    planes = batch * channels
// dy  [planes, out_height, out_width]
// dx  [planes, in_height, in_width]    through `epilogue`
//
// Constants: GROUP, lanes of a workgroup; TILE_HEIGHT, TILE_WIDTH; KERNEL_HEIGHT, KERNEL_WIDTH, STRIDE_HEIGHT, STRIDE_WIDTH.
// Workgroup memory: 8 bytes a window of a tile.
// Grid: planes * ceil(in_height / TILE_HEIGHT) * ceil(in_width / TILE_WIDTH) workgroups, folded freely over x and y.
// Loops: ceil(WINDOWS / GROUP) * (1 + KERNEL_HEIGHT * (1 + KERNEL_WIDTH))
//        + ceil(TILE_HEIGHT * TILE_WIDTH / GROUP) * (1 + ACROSS_ROWS * (1 + ACROSS_COLUMNS)) iterations an invocation.

// Windows that reach a tile, along either axis, and those that cover an element.
const WINDOW_ROWS: u32 = (TILE_HEIGHT + KERNEL_HEIGHT - 2u) / STRIDE_HEIGHT + 1u;
const WINDOW_COLUMNS: u32 = (TILE_WIDTH + KERNEL_WIDTH - 2u) / STRIDE_WIDTH + 1u;
const WINDOWS: u32 = WINDOW_ROWS * WINDOW_COLUMNS;
const ACROSS_ROWS: u32 = (KERNEL_HEIGHT - 1u) / STRIDE_HEIGHT + 1u;
const ACROSS_COLUMNS: u32 = (KERNEL_WIDTH - 1u) / STRIDE_WIDTH + 1u;

var<workgroup> places: array<u32, WINDOWS>;
var<workgroup> slopes: array<f32, WINDOWS>;

// The first window that reaches position `at`, counted from the edge of the padding.
fn first_window(at: u32, size: u32, stride: u32) -> u32 {
    return select(0u, (at + stride - size) / stride, at >= size);
}

fn work(tile: u32, lane: u32) {
    let across = (p.in_width + TILE_WIDTH - 1u) / TILE_WIDTH;
    let line = tile / across;
    let down = (p.in_height + TILE_HEIGHT - 1u) / TILE_HEIGHT;
    let plane = line / down;
    if plane >= p.planes {
        return;
    }
    let first_row = (line - plane * down) * TILE_HEIGHT;
    let first_column = (tile - line * across) * TILE_WIDTH;
    let first_i = first_window(first_row + p.padding_height, KERNEL_HEIGHT, STRIDE_HEIGHT);
    let first_j = first_window(first_column + p.padding_width, KERNEL_WIDTH, STRIDE_WIDTH);
    let base = plane * p.in_height * p.in_width;

    for (var n = lane; n < WINDOWS; n += GROUP) {
        let row_number = n / WINDOW_COLUMNS;
        let i = first_i + row_number;
        let j = first_j + n - row_number * WINDOW_COLUMNS;
        // No element has this place.
        places[n] = 0xffffffffu;
        if i < p.out_height && j < p.out_width {
            places[n] = winner(base, i, j).at;
            slopes[n] = from_b(dy[(plane * p.out_height + i) * p.out_width + j]);
        }
    }
    workgroupBarrier();

    for (var n = lane; n < TILE_HEIGHT * TILE_WIDTH; n += GROUP) {
        let row = first_row + n / TILE_WIDTH;
        let column = first_column + n % TILE_WIDTH;
        let place = row * p.in_width + column;
        // The first window that may cover the element, less the first of the tile; negative numbers wrap and fail the test
        // against the size. A window that does not cover it has another winner.
        let t = (row + p.padding_height) / STRIDE_HEIGHT - (ACROSS_ROWS - 1u) - first_i;
        let s = (column + p.padding_width) / STRIDE_WIDTH - (ACROSS_COLUMNS - 1u) - first_j;
        var sum = 0.0;
        for (var u = 0u; u < ACROSS_ROWS; u++) {
            for (var v = 0u; v < ACROSS_COLUMNS; v++) {
                let inside = t + u < WINDOW_ROWS && s + v < WINDOW_COLUMNS;
                let at = select(0u, (t + u) * WINDOW_COLUMNS + s + v, inside);
                if inside && places[at] == place {
                    sum += slopes[at];
                }
            }
        }
        if row < p.in_height && column < p.in_width {
            let index = base + place;
            dx[index] = epilogue(sum, index);
        }
    }
}
