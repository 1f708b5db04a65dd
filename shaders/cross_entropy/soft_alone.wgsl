// Rows that have shares alone, for `cross_entropy/soft_state.wgsl`; `cross_entropy/soft_labelled.wgsl` has the same for those that
// have a label too.

alias Row = u32;

fn begin(row: u32) -> Row {
    return row;
}

// How much the label counts.
fn weight_of(begun: Row) -> f32 {
    return 0.0;
}

// Its logit.
fn logit_of(begun: Row) -> f32 {
    return 0.0;
}

// What it adds to the shares of value j.
fn added(begun: Row, j: u32) -> F {
    return F(0.0);
}
