// Functions over the lanes of a value F, four parts of one row: all lanes get what they have together. `rows/lanes_apart.wgsl` has the
// same where the lanes are of several rows.

const PARTS: f32 = 4.0;

fn lanes_sum(x: F) -> F {
    return F((x.x + x.y) + (x.z + x.w));
}

fn lanes_max(x: F) -> F {
    return F(max(max(x.x, x.y), max(x.z, x.w)));
}

fn lanes_first(x: F) -> F {
    return F(x.x);
}

// What one lane has of a value that is the same in all.
alias G = f32;

fn narrow_value(x: F) -> G {
    return x.x;
}

fn wide_value(x: G) -> F {
    return F(x);
}
