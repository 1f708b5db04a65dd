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
// rounding).
fn erf(x: F) -> F {
    let z = clamp(x, F(-3.92), F(3.92));
    let q = z * z;
    let high = F(0.0037654918) + q * (F(0.00028486844) + q * F(2.0499501e-6));
    let top = F(1.1283791) + q * (F(0.19040515) + q * (F(0.052748304) + q * high));
    let low = F(0.014968977) + q * (F(0.0011624836) + q * F(3.8089536e-5));
    let under = F(1.0) + q * (F(0.5020749) + q * (F(0.11410835) + q * low));
    return select(z * top / under, x, is_nan(x));
}

// The 12 leading bits of a float, sign and exponent aside: a product of two such is exact, and no driver can take the
// difference to x for x's own rounding.
fn leading(x: F) -> F {
    return bitcast<F>(bitcast<U>(x) & U(0xfffff000u));
}

// The share of the normal distribution below x: h = e^(-x^2 / 2) R(|x|) on the left, 1 - h on the right. R by a polynomial
// in (z - 2.8) / (z + 2.8) (least maximum relative error 4e-8); the rounding of x^2 is made good to first order.
fn normal_cdf(x: F) -> F {
    let z = min(abs(x), F(14.0));
    let w = F(1.0) / (z + F(2.8));
    let y = (z - F(2.8)) * w;
    let high = F(0.0040716500) + y * (F(0.0023186402) + y * (F(-0.00040842120) + y * (F(-0.00042474415) + y * F(-7.016304e-5))));
    let ratio = F(0.7211663) + y * (F(-0.48177534) + y * (F(0.19211008) + y * (F(-0.022378063) + y * (F(-0.015730673) + y * high))));
    let square = z * z;
    let lead = leading(z);
    let lost = (lead * lead - square) + (z - lead) * (z + lead);
    let tail = exp_full(F(-0.5) * square) * (F(1.0) - F(0.5) * lost) * (ratio * w);
    return select(select(tail, F(1.0) - tail, x > F(0.0)), x, is_nan(x));
}

// |a|^b for finite |a| above 0, as 2^(b log2 |a|). The logarithm and its product with b are sums of two floats each, so that
// the result is within 1 unit in the last place, and exact where it fits; after the scheme of FreeBSD's powf: |a| = 2^e m,
// s = (m - 1) / (m + 1), log2(m) = 2 / (3 ln2) s (3 + s^2 + r).
fn power_of_size(size: F, b: F) -> F {
    let tiny = size < F(1.17549435e-38);
    let shifted = bitcast<I>(select(size, size * F(8388608.0), tiny)) - I(0x3f3504f3);
    let e = F(shifted >> U(23u)) - select(F(0.0), F(23.0), tiny);
    let m = bitcast<F>((shifted & I(0x007fffff)) + I(0x3f3504f3));
    let d = m + F(1.0);
    let d_high = leading(d);
    let d_low = m - (d_high - F(1.0));
    let s = (m - F(1.0)) / d;
    let s_high = leading(s);
    // The sign by its bit: with one factor in both products a compiler would add d_high and d_low.
    let s_less = bitcast<F>(bitcast<U>(s_high) ^ U(0x80000000u));
    let s_low = (((m - F(1.0)) + s_less * d_high) - s_high * d_low) / d;
    let q = s * s;
    let series = q * q * (F(0.6) + q * (F(0.42857143) + q * (F(0.33333334) + q * (F(0.27272728) + q * F(0.23076923)))));
    let r = series + s_low * (s_high + s);
    let q_high = s_high * s_high;
    let t_high = leading(F(3.0) + q_high + r);
    let t_low = r - ((t_high - F(3.0)) - q_high);
    let u = s_high * t_high;
    let v = s_low * t_high + t_low * s;
    let k_high = leading(u + v);
    let k_low = v - (k_high - u);
    let l_high = F(0.9619140625) * k_high;
    let l_low = F(-1.1736857e-4) * k_high + k_low * F(0.9617967);
    let log_high = leading(e + (l_high + l_low));
    let log_low = l_low - ((log_high - e) - l_high);
    // Powers of all but 1 leave the range long before these exponents.
    let limited = clamp(b, F(-4.0e9), F(4.0e9));
    let b_high = leading(limited);
    let p_high = b_high * log_high;
    let p_low = (limited - b_high) * log_high + limited * log_low;
    let p = p_high + p_low;
    let n = round(clamp(p, F(-126.0), F(128.0)));
    let rest = p_high - n;
    let x_high = leading(rest + p_low);
    let x_low = p_low - (x_high - rest);
    // e^x for x = ln2 (x_high + x_low); 0.693359375 has nine bits.
    let y = x_high * F(0.693359375);
    let y_low = x_high * F(-2.12194440e-4) + x_low * F(0.69314718);
    let x = y + y_low;
    let tail = F(0.16666667) + x * (F(0.041666668) + x * (F(0.0083333338) + x * (F(0.0013888889) + x * F(0.00019841270))));
    // The sign by its bit again: 1 + y, formed first, would round away what y_low holds.
    let less = bitcast<F>(bitcast<U>(y + (y_low + x * x * (F(0.5) + x * tail))) ^ U(0x80000000u));
    let poly = F(1.0) - less;
    let scaled = bitcast<F>(bitcast<U>(poly) + (bitcast<U>(I(n)) << U(23u)));
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(p) & U(0u)));
    return select(select(scaled, infinite, p >= F(128.0)), F(0.0), p < F(-126.0));
}

// a^b as C's pow: negative bases with whole exponents, 1 for b = 0 and for a = 1. Squares and roots are the machine's own.
fn power(a: F, b: F) -> F {
    let size = abs(a);
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(a) & U(0u)));
    let end = (size == F(0.0)) | (size >= infinite);
    let end_value = select(F(0.0), infinite, (size >= infinite) == (b > F(0.0)));
    let inner = select(power_of_size(size, b), a * a, b == F(2.0));
    let value = select(select(inner, sqrt(size), b == F(0.5)), end_value, end);
    let whole = floor(b) == b;
    let odd = whole & (floor(b * F(0.5)) * F(2.0) != b) & (abs(b) < F(16777216.0));
    let negative = bitcast<U>(a) >= U(0x80000000u);
    let signed_value = select(value, -value, negative & odd);
    let defined = select(signed_value, to_nan(a), (a < F(0.0)) & !whole & !(size >= infinite));
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
