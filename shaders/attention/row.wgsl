// What one query of an attention sees, for all kernels of it.
//
//   score(i, j) = cap(scale q_i k_j) + mask(i, j), of the keys that are seen
//
// Asks for: exp_down (`rows/exp_down.wgsl`), aliases F, I, U, B of one or four keys side by side, and, from the op:
//   fn length_of(plane: u32) -> u32                 keys that there are for a plane (batch and head)
//   fn mask_start(plane: u32, query: u32) -> u32    where its row of the mask begins
//   fn shown(row: Row, keys: U) -> B                what a mask of truths says
//   fn bias(row: Row, keys: U) -> F                 what a mask of numbers adds
//   fn capped(x: F) -> F, fn cap_slope(x: F) -> F   of a score, and its slope there
//   fn factor(row: Row, keys: U) -> F               of a weight: dropout's

// The least float, not -inf: a difference of two infinities would be NaN.
const LEAST: f32 = -3.4028234e38;

struct Row {
    // It sees keys from `first` on, before `end`.
    first: u32,
    end: u32,
    mask: u32,
    // Number of its first weight among all weights, which is what dropout draws by.
    weights: u32,
}

fn row_of(plane: u32, query: u32) -> Row {
    let first = select(0u, query - p.left, query > p.left);
    let end = min(min(query + p.right + 1u, p.keys), length_of(plane));
    return Row(first, end, mask_start(plane, query), (plane * p.queries + query) * p.keys);
}

fn seen(row: Row, keys: U) -> B {
    return (keys >= U(row.first)) & (keys < U(row.end)) & shown(row, keys);
}

fn score(product: F, row: Row, keys: U) -> F {
    return capped(product * p.scale) + bias(row, keys);
}

// True for NaN and +inf: a row with one of them has no weights.
fn is_bad(x: F) -> B {
    let bits = bitcast<U>(x);
    return ((bits & U(0x7f800000u)) == U(0x7f800000u)) & (bits != U(0xff800000u));
}

fn nan() -> f32 {
    return bitcast<f32>(0x7fc00000u + p.zero);
}
