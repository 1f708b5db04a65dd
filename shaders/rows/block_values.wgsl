// How `rows/block.wgsl` gets at values that are moved one at a time. `rows/block_pairs.wgsl` has the same for pairs.

const HALVES: u32 = 1u;

alias V = F;

fn value_of(x: V, half: u32) -> F {
    return x;
}

fn stored(low: F, high: F) -> V {
    return low;
}

fn first_at(at: u32, half: u32) -> F {
    return prologue(at * LANES);
}

fn finish(x: F, at: u32, half: u32) -> OUT {
    return epilogue(x, at * LANES);
}

fn put(at: u32, low: OUT, high: OUT) {
    result[at] = low;
}
