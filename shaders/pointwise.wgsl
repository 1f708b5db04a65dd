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

// e^x = 2^n e^r with r in [-ln2/2, ln2/2]; Cody and Waite reduction, Taylor to x^7 (truncation below 6e-9).
fn exp_full(x: F) -> F {
    let limited = clamp(x, F(-104.0), F(89.0));
    let n = round(limited * F(1.44269504));
    let r = (limited - n * F(0.693359375)) + n * F(2.12194440e-4);
    let tail = F(0.16666667) + r * (F(0.041666668) + r * (F(0.0083333338) + r * (F(0.0013888889) + r * F(0.00019841270))));
    let poly = F(1.0) + (r + r * r * (F(0.5) + r * tail));
    // Two factors, so that neither power of two leaves the normal range.
    let half_n = I(n) / I(2);
    let rest = I(n) - half_n;
    let scaled = poly * bitcast<F>((half_n + I(127)) << U(23u)) * bitcast<F>((rest + I(127)) << U(23u));
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    let ranged = select(select(scaled, infinite, x > F(88.72284)), F(0.0), x < F(-103.97));
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

// erf: Maclaurin series within 1 (Abramowitz and Stegun 7.1.5), else their 7.1.26 with error below 1.5e-7.
fn erf(x: F) -> F {
    let z = abs(x);
    let q = x * x;
    let high = F(-0.00075757576) + q * (F(0.00010683761) + q * (F(-1.3227513e-5) + q * (F(1.4589169e-6) - q * F(1.4503852e-7))));
    let low = F(0.1) + q * (F(-0.023809524) + q * (F(0.0046296296) + q * high));
    let series = x * F(1.1283792) * (F(1.0) + q * (F(-0.33333334) + q * low));
    let t = F(1.0) / (F(1.0) + F(0.3275911) * z);
    let poly = t * (F(0.254829592) + t * (F(-0.284496736) + t * (F(1.421413741) + t * (F(-1.453152027) + t * F(1.061405429)))));
    let far = F(1.0) - poly * exp_full(-q);
    let signed_far = bitcast<F>(bitcast<U>(far) | (bitcast<U>(x) & U(0x80000000u)));
    return select(select(signed_far, series, z < F(1.0)), x, is_nan(x));
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
