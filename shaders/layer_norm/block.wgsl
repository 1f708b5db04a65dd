// Normalisation of each row, several rows a workgroup: y = (x - mean) / sqrt(variance + epsilon) * w + b.
//
// Operands: x (through prologue), w and b [n] where there are any, result (through epilogue). Asks for `affine(x, column)`, which
// applies w and b, `column(j, half)`, which reads them, and `rows/moments.wgsl`. For `rows/block.wgsl`, which says what the
// functions are.

alias Item = F;
alias Sums = u32;

fn item(row: u32, j: u32, half: u32) -> Item {
    return first_at(place(row, j), half);
}

fn begin(row: u32) -> F {
    if CENTRED {
        return lanes_first(item(row, 0u, 0u));
    }
    return F(0.0);
}

fn take(state: State, x: Item, shared_by_rows: Column, begun: F) -> State {
    return take_element(state, x - begun);
}

fn close(state: State) -> State {
    return close_lanes(state);
}

fn keep(state: State, begun: F) -> Kept {
    return Kept(lane_of(begun, 0u), lane_of(state.mean, 0u), 1.0 / sqrt(lane_of(state.square, 0u) / f32(p.count) + p.number));
}

fn value(kept: Kept, x: Item, shared_by_rows: Column) -> F {
    return affine(((x - kept.first) - kept.mean) * kept.scale, shared_by_rows);
}

fn no_sums() -> Sums {
    return 0u;
}

fn add(sums: Sums, kept: Kept, x: Item) -> Sums {
    return sums;
}

fn put_sums(part: u32, j: u32, sums: Sums, high_sums: Sums) {}
