// Functions that pointwise expressions call. Lanes are F, I, U and B: one or four wide, set by `alias` lines that the
// planner puts first. Only the functions that a kernel reaches are included.

// NaN by its bits: comparing a value with itself is no test on some drivers.
fn is_nan(x: F) -> B {
    return (bitcast<U>(x) & U(0x7fffffffu)) > U(0x7f800000u);
}

fn to_nan(x: F) -> F {
    return bitcast<F>(bitcast<U>(x) | U(0x7fc00000u));
}

// `result`, but NaN where a or b is: min, max and clamp drop NaN on some drivers.
fn with_nan(result: F, a: F, b: F) -> F {
    return select(select(result, b, is_nan(b)), a, is_nan(a));
}

// max(x, 0) that keeps NaN and -0: 0 for the bits from the least negative number to -inf. A comparison would do, but some
// drivers make a maximum of it, which loses -0, and others compare denormal numbers as zeros.
fn rectified(x: F) -> F {
    return select(x, F(0.0), bitcast<U>(x) - U(0x80000001u) < U(0x7f800000u));
}

// e^x = 2^n e^r with r in [-ln2/2, ln2/2]; Cody and Waite reduction, least maximum error polynomial of degree 6 (relative
// error 8e-8 with rounding). 2^n is added to the exponent, so what is below the normal numbers is 0.
fn exp_full(x: F) -> F {
    let limited = clamp(x, F(-87.33654), F(88.72283));
    let n = round(limited * F(1.44269504));
    let r = (limited - n * F(0.693359375)) + n * F(2.12194440e-4);
    let tail = F(0.49999994) + r * (F(0.16666521) + r * (F(0.041668389) + r * (F(0.0083687455) + r * F(0.0013814541))));
    let poly = F(1.0) + (r + r * r * tail);
    let scaled = bitcast<F>(bitcast<U>(poly) + (bitcast<U>(I(n)) << U(23u)));
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    let ranged = select(select(scaled, infinite, x > F(88.72283)), F(0.0), x < F(-87.33654));
    return select(ranged, x, is_nan(x));
}

// log(x) = e ln2 + log(m), m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh(s), s = (m - 1) / (m + 1).
fn log_full(x: F) -> F {
    let tiny = x < F(1.17549435e-38);
    let normal = select(x, x * F(8388608.0), tiny);
    let shifted = bitcast<I>(normal) - I(0x3f3504f3);
    let e = F(shifted >> U(23u)) - select(F(0.0), F(23.0), tiny);
    let m = bitcast<F>((shifted & I(0x007fffff)) + I(0x3f3504f3));
    let value = e * F(0.693359375) + (e * F(-2.12194440e-4) + log_near_one(m - F(1.0)));
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    let ranged = select(select(value, infinite, x >= infinite), -infinite, x == F(0.0));
    return select(select(ranged, to_nan(x), x < F(0.0)), x, is_nan(x));
}

// log(1 + x) for 1 + x in [sqrt(1/2), sqrt(2)]: 2 atanh(x / (2 + x)), |s| <= 0.172, series to s^11.
fn log_near_one(x: F) -> F {
    let s = x / (F(2.0) + x);
    let q = s * s;
    let tail = q * (F(0.33333334) + q * (F(0.2) + q * (F(0.14285715) + q * (F(0.11111111) + q * F(0.09090909)))));
    // x - s x = 2 s, so the leading term carries no rounding of s.
    return x - s * (x - F(2.0) * tail);
}

fn log1p(x: F) -> F {
    let near = abs(x + F(0.05)) < F(0.34);
    return select(log_full(F(1.0) + x), log_near_one(select(F(0.0), x, near)), near);
}

// Taylor to x^9 within 0.5 (truncation below 3e-10 of x), else exp(x) - 1. The sign bit is that of x: the polynomial adds
// +0 to -0, which is +0.
fn expm1(x: F) -> F {
    let tail = F(0.0013888889) + x * (F(0.00019841270) + x * (F(2.4801587e-5) + x * F(2.7557319e-6)));
    let poly = F(0.5) + x * (F(0.16666667) + x * (F(0.041666668) + x * (F(0.0083333338) + x * tail)));
    let value = select(exp_full(x) - F(1.0), x + x * x * poly, abs(x) < F(0.5));
    return bitcast<F>(bitcast<U>(value) | (bitcast<U>(x) & U(0x80000000u)));
}

// tanh(x) = t / (t + 2), t = expm1(2 |x|), with the sign of x.
fn tanh_full(x: F) -> F {
    let t = expm1(F(2.0) * min(abs(x), F(10.0)));
    let value = t / (t + F(2.0));
    let signed_value = bitcast<F>(bitcast<U>(value) | (bitcast<U>(x) & U(0x80000000u)));
    return select(signed_value, x, is_nan(x));
}

fn sigmoid(x: F) -> F {
    return F(1.0) / (F(1.0) + exp_full(-x));
}

// erf(x) = x P(x^2) / Q(x^2) within 3.92, where it is 1 to the last bit: least maximum relative error (2e-8; 4e-7 with
// rounding). The series of Abramowitz and Stegun that was here before took four times the operations.
fn erf(x: F) -> F {
    let z = clamp(x, F(-3.92), F(3.92));
    let q = z * z;
    let high = F(0.0037654918) + q * (F(0.00028486844) + q * F(2.0499501e-6));
    let top = F(1.1283791) + q * (F(0.19040515) + q * (F(0.052748304) + q * high));
    let low = F(0.014968977) + q * (F(0.0011624836) + q * F(3.8089536e-5));
    let under = F(1.0) + q * (F(0.5020749) + q * (F(0.11410835) + q * low));
    return select(z * top / under, x, is_nan(x));
}

// a^b as C's pow: negative bases with whole exponents, 1 for b = 0 and for a = 1.
fn power(a: F, b: F) -> F {
    let size = abs(a);
    let value = exp_full(b * log_full(size));
    let whole = floor(b) == b;
    let odd = whole & (floor(b * F(0.5)) * F(2.0) != b) & (abs(b) < F(16777216.0));
    let negative = bitcast<U>(a) >= U(0x80000000u);
    let signed_value = select(value, -value, negative & odd);
    let infinite = size >= bitcast<F>(U(0x7f800000u) + (bitcast<U>(a) & U(0u)));
    let defined = select(signed_value, to_nan(a), (a < F(0.0)) & !whole & !infinite);
    let ones = (b == F(0.0)) | (a == F(1.0)) | ((a == F(-1.0)) & (abs(b) > F(3.0e38)));
    return select(with_nan(defined, a, b), F(1.0), ones);
}

// a / b of integers as WGSL defines it: a where b is 0, and the least number over -1 is itself. It is said here, because no
// check of the driver's compiler stands behind these texts, and hardware leaves both open.
fn signed_quotient(a: I, b: I) -> I {
    let open = (b == I(0)) | ((a == I(-2147483648)) & (b == I(-1)));
    return a / select(b, I(1), open);
}

fn unsigned_quotient(a: U, b: U) -> U {
    return a / select(b, U(1u), b == U(0u));
}

// Two quads in four words of 64 bits, as they lie in memory; and one of them.
fn pair_of(low: vec4<u32>, high: vec4<u32>) -> vec4<u64> {
    let even = vec4<u64>(vec4<u32>(low.x, low.z, high.x, high.z));
    let odd = vec4<u64>(vec4<u32>(low.y, low.w, high.y, high.w));
    return even | (odd << vec4<u32>(32u));
}

fn half_of(pair: vec4<u64>, half: u32) -> vec4<u32> {
    let two = select(pair.xy, pair.zw, half == 1u);
    let even = vec2<u32>(two);
    let odd = vec2<u32>(two >> vec2<u32>(32u));
    return vec4<u32>(even.x, odd.x, even.y, odd.y);
}

// x / d, for the words that `divisor` in `plan/emit/access.rs` makes of d (Granlund and Montgomery 1994, figure 4.1): software drivers divide
// lane by lane.
fn quotient(x: u32, magic: u32, shift: u32) -> u32 {
    let high = wide_product(x, magic).x;
    return (high + ((x - high) >> min(shift, 1u))) >> (max(shift, 1u) - 1u);
}
