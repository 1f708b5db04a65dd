// h_j = a_j h_{j-1} + b_j, with nothing before the first: a run takes h to factor h + value.
//
// a through prologue; addend, f32; result, of OUT

struct T {
    factor: f32,
    value: f32,
}

fn initial() -> T {
    return T(1.0, 0.0);
}

fn combine(a: T, b: T) -> T {
    return T(a.factor * b.factor, b.factor * a.value + b.value);
}

fn element(index: u32, j: u32) -> T {
    // What the first is multiplied with is 0, and not infinity times 0.
    return T(select(prologue(index), 0.0, j == 0u), addend[index]);
}

fn store(state: T, index: u32) {
    result[index] = epilogue(state.value, index);
}
