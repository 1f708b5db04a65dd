// Running sums, or with `const PRODUCT: bool` products: the state is a number.
//
// Asks for: alias T, its type. result, of OUT or of its integers.

fn initial() -> T {
    if PRODUCT {
        return T(1);
    }
    return T(0);
}

fn combine(a: T, b: T) -> T {
    if PRODUCT {
        return a * b;
    }
    return a + b;
}

fn element(index: u32, j: u32) -> T {
    return prologue(index);
}

fn store(state: T, index: u32) {
    result[index] = epilogue(state, index);
}
