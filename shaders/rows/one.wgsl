// `rows/four.wgsl` for values of one element.

const LANES: u32 = 1u;

fn lane_of(x: F, lane: u32) -> f32 {
    return x;
}

fn lane_numbers(first: u32) -> U {
    return first;
}
