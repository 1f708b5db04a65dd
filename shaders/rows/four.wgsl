// How a value F of four elements is taken apart. `rows/one.wgsl` has the same for one.

const LANES: u32 = 4u;

fn lane_of(x: F, lane: u32) -> f32 {
    return x[lane];
}

// Numbers of the elements of the value whose first is number `first`.
fn lane_numbers(first: u32) -> U {
    return U(first) + U(0u, 1u, 2u, 3u);
}
