// The largest element so far, or with `const LEAST: bool` the smallest, and where it is: of equal ones the last, and NaN from the first
// on, as in PyTorch.
//
// Asks for: alias S, the element type, and `is_no_number`, which is false for integers. result, of OUT or of its integers; indices, u32.

struct T {
    value: S,
    place: u32,
    // False before the first element.
    is_some: u32,
}

fn initial() -> T {
    return T(S(0), 0u, 0u);
}

// b, where both are some, is behind a.
fn combine(a: T, b: T) -> T {
    let further = select(b.value >= a.value, b.value <= a.value, LEAST);
    let wins = is_no_number(b.value) || (!is_no_number(a.value) && further);
    if b.is_some == 0u || (a.is_some != 0u && !wins) {
        return a;
    }
    return b;
}

fn element(index: u32, j: u32) -> T {
    return T(prologue(index), j, 1u);
}

fn store(state: T, index: u32) {
    indices[index] = state.place;
    result[index] = epilogue(state.value, index);
}
