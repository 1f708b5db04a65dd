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

fn is_inf(x: F) -> B {
    return (bitcast<U>(x) & U(0x7fffffffu)) == U(0x7f800000u);
}

fn is_finite(x: F) -> B {
    return (bitcast<U>(x) & U(0x7f800000u)) != U(0x7f800000u);
}

// The size of `size` with the sign of x.
fn signed_as(size: F, x: F) -> F {
    return bitcast<F>((bitcast<U>(size) & U(0x7fffffffu)) | (bitcast<U>(x) & U(0x80000000u)));
}

// 2^n e^r for r in [-ln2/2, ln2/2]: least maximum error polynomial of degree 6 (relative error 8e-8 with rounding). 2^n is added
// to the exponent.
fn scaled_power(n: F, r: F) -> F {
    let tail = F(0.49999994) + r * (F(0.16666521) + r * (F(0.041668389) + r * (F(0.0083687455) + r * F(0.0013814541))));
    let poly = F(1.0) + (r + r * r * tail);
    return bitcast<F>(bitcast<U>(poly) + (bitcast<U>(I(n)) << U(23u)));
}

// `value`, but infinite above `most`, 0 below `least`, and NaN where x is.
fn ranged_power(value: F, x: F, least: f32, most: f32) -> F {
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    return select(select(select(value, infinite, x > F(most)), F(0.0), x < F(least)), x, is_nan(x));
}

// e^x = 2^n e^r; Cody and Waite reduction. What is below the normal numbers is 0.
fn exp_full(x: F) -> F {
    let limited = clamp(x, F(-87.33654), F(88.72283));
    let n = round(limited * F(1.44269504));
    let r = (limited - n * F(0.693359375)) + n * F(2.12194440e-4);
    return ranged_power(scaled_power(n, r), x, -87.33654, 88.72283);
}

// The same of 2^x, whose x - n is exact.
fn exp2_full(x: F) -> F {
    let limited = clamp(x, F(-126.0), F(127.99999));
    let n = round(limited);
    return ranged_power(scaled_power(n, (limited - n) * F(0.69314718)), x, -126.0, 127.99999);
}

// x = 2^e m, m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh(s), s = (m - 1) / (m + 1).
struct Logarithm {
    e: F,
    of_m: F,
}

fn logarithm(x: F) -> Logarithm {
    let tiny = x < F(1.17549435e-38);
    let normal = select(x, x * F(8388608.0), tiny);
    let shifted = bitcast<I>(normal) - I(0x3f3504f3);
    let e = F(shifted >> U(23u)) - select(F(0.0), F(23.0), tiny);
    let m = bitcast<F>((shifted & I(0x007fffff)) + I(0x3f3504f3));
    return Logarithm(e, log_near_one(m - F(1.0)));
}

// `value`, a logarithm of x, but with its values at 0, at infinity, below 0 and at NaN.
fn ranged_logarithm(value: F, x: F) -> F {
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    let ranged = select(select(value, infinite, x >= infinite), -infinite, x == F(0.0));
    return select(select(ranged, to_nan(x), x < F(0.0)), x, is_nan(x));
}

// e ln2 + log(m), with ln2 as a sum of two numbers of which one has few bits.
fn log_full(x: F) -> F {
    let parts = logarithm(x);
    return ranged_logarithm(parts.e * F(0.693359375) + (parts.e * F(-2.12194440e-4) + parts.of_m), x);
}

fn log2_full(x: F) -> F {
    let parts = logarithm(x);
    return ranged_logarithm(parts.e + parts.of_m * F(1.44269504), x);
}

// As `log_full` with log10(2); 0.301025390625 has twelve bits.
fn log10_full(x: F) -> F {
    let parts = logarithm(x);
    return ranged_logarithm(parts.e * F(0.301025390625) + (parts.e * F(4.605039e-6) + parts.of_m * F(0.43429448)), x);
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

// e^(z^2 / 2) times the share of the normal distribution beyond z, for z of at least 0: a polynomial in (z - 2.8) / (z + 2.8) (least
// maximum relative error 4e-8).
fn tail_ratio(z: F) -> F {
    let w = F(1.0) / (z + F(2.8));
    let y = (z - F(2.8)) * w;
    let high = F(0.0040716500) + y * (F(0.0023186402) + y * (F(-0.00040842120) + y * (F(-0.00042474415) + y * F(-7.016304e-5))));
    let ratio = F(0.7211663) + y * (F(-0.48177534) + y * (F(0.19211008) + y * (F(-0.022378063) + y * (F(-0.015730673) + y * high))));
    return ratio * w;
}

// What rounding takes off z^2.
fn lost_of_square(z: F) -> F {
    let lead = leading(z);
    return (lead * lead - z * z) + (z - lead) * (z + lead);
}

// The share of the normal distribution below x: h = e^(-x^2 / 2) R(|x|) on the left, 1 - h on the right. The rounding of x^2 is made
// good to first order.
fn normal_cdf(x: F) -> F {
    let z = min(abs(x), F(14.0));
    let tail = exp_full(F(-0.5) * (z * z)) * (F(1.0) - F(0.5) * lost_of_square(z)) * tail_ratio(z);
    return select(select(tail, F(1.0) - tail, x > F(0.0)), x, is_nan(x));
}

// 1 - erf(x) = 2 e^(-x^2) R(sqrt(2) x) on the right, 2 - that on the left.
fn erfc(x: F) -> F {
    let z = min(abs(x), F(10.0));
    let tail = exp_full(-(z * z)) * (F(1.0) - lost_of_square(z)) * (F(2.0) * tail_ratio(F(1.41421356) * z));
    return select(select(tail, F(2.0) - tail, x < F(0.0)), x, is_nan(x));
}

// log(e^a + e^b); two equal infinities are their own.
fn log_of_sum(a: F, b: F) -> F {
    let value = max(a, b) + log1p(exp_full(-abs(a - b)));
    return select(with_nan(value, a, b), a, (a == b) & is_inf(a));
}

// x tanh(log(1 + n)), n = e^x, as x t / (t + 2), t = n (n + 2); from 20 on the quotient is 1.
fn mish(x: F) -> F {
    let n = exp_full(min(x, F(20.0)));
    let t = n * (n + F(2.0));
    return select(x * (t / (t + F(2.0))), x, is_nan(x));
}

// sqrt(a^2 + b^2), scaled by a power of 2 where a square would leave the range.
fn hypotenuse(a: F, b: F) -> F {
    let most = max(abs(a), abs(b));
    let large = most > F(1.1529215e18);
    let small = most < F(8.673617e-19);
    let by = select(select(F(1.0), F(8.271806e-25), large), F(1.2676506e30), small);
    let back = select(select(F(1.0), F(1.2089258e24), large), F(7.888609e-31), small);
    let x = a * by;
    let y = b * by;
    let value = with_nan(sqrt(x * x + y * y) * back, a, b);
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(a) & U(0u)));
    return select(value, infinite, is_inf(a) | is_inf(b));
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

// A standard normal of two words, of which the upper 24 bits count (Box and Muller 1958).
fn normal_of(a: U, b: U) -> F {
    let u = F((a >> U(8u)) + U(1u)) * F(5.9604645e-8);
    return sqrt(F(-2.0) * log_full(u)) * cosine_of_turn(F(b >> U(8u)) * F(5.9604645e-8));
}

// cos(2 pi v) for v in [0, 1): by quarters, and series within an eighth.
fn cosine_of_turn(v: F) -> F {
    let quarter = floor(v * F(4.0) + F(0.5));
    let x = (v - quarter * F(0.25)) * F(6.2831855);
    let q = x * x;
    let s = x * (F(1.0) - q * (F(0.16666667) - q * (F(8.3333333e-3) - q * (F(1.9841270e-4) - q * F(2.7557319e-6)))));
    let c = F(1.0) - q * (F(0.5) - q * (F(4.1666667e-2) - q * (F(1.3888889e-3) - q * (F(2.4801587e-5) - q * F(2.7557319e-7)))));
    let turn = U(quarter) & U(3u);
    let near = select(c, s, (turn & U(1u)) == U(1u));
    return select(near, -near, (turn == U(1u)) | (turn == U(2u)));
}
