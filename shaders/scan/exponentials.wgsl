// log(sum exp(x)) of the elements so far: the largest of them, and the sum of exponentials scaled by it. +inf is taken for the largest
// float on its way, since a difference of two infinities would be NaN.
//
// Asks for: `rows/exp_down.wgsl`. result, of OUT

const LARGEST: f32 = 3.4028234e38;

struct T {
    top: f32,
    sum: f32,
}

fn initial() -> T {
    return T(-LARGEST, 0.0);
}

fn combine(a: T, b: T) -> T {
    let top = max(a.top, b.top);
    return T(top, a.sum * exp_down(a.top - top) + b.sum * exp_down(b.top - top));
}

fn element(index: u32, j: u32) -> T {
    let x = prologue(index);
    // NaN is in the sum: a maximum may drop it.
    return T(clamp(x, -LARGEST, LARGEST), select(select(1.0, 0.0, x < -LARGEST), x, is_nan(x)));
}

fn store(state: T, index: u32) {
    let infinite = bitcast<f32>(0x7f800000u + p.zero);
    let value = state.top + log_full(state.sum);
    result[index] = epilogue(select(value, infinite, state.top >= LARGEST && !is_nan(state.sum)), index);
}
