// Rows whose class t, the label, has a weight h besides its share, for `cross_entropy/soft_state.wgsl`. A label that is no class gets
// the weight NaN and reads nothing.
//
// Operands: labels [n], h [n] (as `weights`).

struct Row {
    label: u32,
    weight: f32,
    // x_t
    logit: f32,
}

fn begin(row: u32) -> Row {
    let label = labels[row];
    if label >= p.count {
        return Row(label, bitcast<f32>(0x7fc00000u + p.zero), 0.0);
    }
    return Row(label, weights[row], lane_of(logits[place(row, label / LANES)], label % LANES));
}

fn weight_of(begun: Row) -> f32 {
    return begun.weight;
}

fn logit_of(begun: Row) -> f32 {
    return begun.logit;
}

fn added(begun: Row, j: u32) -> F {
    return select(F(0.0), F(begun.weight), lane_numbers(j * LANES) == U(begun.label));
}
