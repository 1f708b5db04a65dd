// For software drivers alone, to which 64 bits cost hardly more than 32 (docs/software-drivers.md): `rows/block_values.wgsl` for pairs of
// values, which are moved at once. What is stored is f32.

const HALVES: u32 = 2u;

alias V = vec4<u64>;

fn value_of(x: V, half: u32) -> F {
    return bitcast<F>(half_of(x, half));
}

fn stored(low: F, high: F) -> V {
    return pair_of(bitcast<U>(low), bitcast<U>(high));
}

fn first_at(at: u32, half: u32) -> F {
    return prologue(at * 8u, half);
}

fn finish(x: F, at: u32, half: u32) -> F {
    return epilogue(x, at * 8u, half);
}

fn put(at: u32, low: F, high: F) {
    result[at] = stored(low, high);
}
