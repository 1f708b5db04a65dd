// Rows of a block to their places in a result.
//
// binding 0  block   [planes, rows, width]
// binding 1  result  [planes, length, width]; rows from p.first on, those before p.fresh left out
// binding 2, 3  with DIVIDED: stats of `attention/weights.wgsl`, [planes, rows], and lse, [planes, length]
//
// Asks for: `const CLEARED: bool`, whether the block is set to 0; fn divided(value: F, row: u32, line: u32, is_lane_zero: bool) -> F;
// F of LANES elements. One invocation a vector of the block.

fn work(index: u32) {
    let across = p.width / LANES;
    if index >= p.planes * p.rows * across {
        return;
    }
    let row = index / across;
    let column = index - row * across;
    let plane = row / p.rows;
    let local = row - plane * p.rows;
    let line = plane * p.length + p.first + local;
    let value = divided(block[index], row, line, column == 0u);
    if CLEARED {
        block[index] = F(0.0);
    }
    if local >= p.fresh {
        result[line * across + column] = value;
    }
}
