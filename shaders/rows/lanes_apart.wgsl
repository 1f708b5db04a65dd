// `rows/lanes_joined.wgsl` where each lane is of a row of its own, or there is one.

const PARTS: f32 = 1.0;

fn lanes_sum(x: F) -> F {
    return x;
}

fn lanes_max(x: F) -> F {
    return x;
}

fn lanes_first(x: F) -> F {
    return x;
}

alias G = F;

fn narrow_value(x: F) -> G {
    return x;
}

fn wide_value(x: G) -> F {
    return x;
}
