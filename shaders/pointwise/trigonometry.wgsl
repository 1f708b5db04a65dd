// Sine and its kin: what WGSL has may be off by 5e-4, and by anything for large numbers. Lanes as in `functions.wgsl`.

// x = quarters pi/2 + r, r in [-pi/4, pi/4]; quarters modulo 4 counts.
struct Turn {
    r: F,
    quarters: U,
}

// Of x from 0 on: pi/2 as a sum of four numbers of which three have twelve bits, so that products with up to 4,095 quarters are exact
// (Cody and Waite); larger x by the bits of 2 / pi.
fn turn_of(x: F) -> Turn {
    let far = x > F(6000.0);
    let n = round(min(x, F(6000.0)) * F(0.63661977));
    let r = (((x - n * F(1.5703125)) - n * F(0.00048375129699707031)) - n * F(7.5495336204767227e-8)) - n * F(2.5633442e-12);
    var turn = Turn(r, U(n));
    if any(far) {
        let exact = far_turn_of(x);
        turn.r = select(r, exact.r, far);
        turn.quarters = select(turn.quarters, exact.quarters, far);
    }
    return turn;
}

// Of x from 2 to the largest number (Payne and Hanek): x = m 2^(e - 31), and the product of m with the bits of 2 / pi that are behind
// those of whole turns, of which there are enough that 64 bits of it are right.
fn far_turn_of(x: F) -> Turn {
    let bits = bitcast<U>(x);
    let place = ((bits >> U(23u)) & U(0xffu)) - U(128u);
    let word = place >> U(5u);
    let by = place & U(31u);
    let m = (bits << U(8u)) | U(0x80000000u);
    let second = two_over_pi(word + U(1u));
    let third = two_over_pi(word + U(2u));
    let middle = shifted_in(second, third, by);
    let product = m * middle;
    let low = product + high_product(m, shifted_in(third, two_over_pi(word + U(3u)), by));
    let carry = select(U(0u), U(1u), low < product);
    let high = m * shifted_in(two_over_pi(word), second, by) + high_product(m, middle) + carry;
    // Four quarters are 2^64: the rest behind the nearest whole quarter, first its sign and its size.
    let rest_high = shifted_in(high, low, U(2u));
    let rest_low = low << U(2u);
    let negative = rest_high >> U(31u);
    let is_negative = negative != U(0u);
    let size_low = select(rest_low, ~rest_low + U(1u), is_negative);
    let size_high = select(rest_high, ~rest_high + select(U(0u), U(1u), rest_low == U(0u)), is_negative);
    let size = (F(size_high) * F(2.3283064e-10) + F(size_low) * F(5.4210109e-20)) * F(1.5707964);
    return Turn(select(size, -size, is_negative), (high >> U(30u)) + negative);
}

// Bits 32 k - 31 to 32 k of 2 / pi behind the point.
fn two_over_pi(k: U) -> U {
    let first = select(select(U(0u), U(0xa2f9836eu), k == U(1u)), U(0x4e441529u), k == U(2u));
    let middle = select(U(0xfc2757d1u), U(0xf534ddc0u), k == U(4u));
    let last = select(U(0xdb629599u), U(0x3c439041u), k == U(6u));
    return select(select(first, middle, k > U(2u)), last, k > U(4u));
}

// `high`, moved up by less than 32 bits, with those of `low` behind.
fn shifted_in(high: U, low: U, by: U) -> U {
    return (high << by) | ((low >> U(1u)) >> (U(31u) - by));
}

// The upper word of a product.
fn high_product(a: U, b: U) -> U {
    let mask = U(0xffffu);
    let a_high = a >> U(16u);
    let b_high = b >> U(16u);
    let across = a_high * (b & mask) + (((a & mask) * (b & mask)) >> U(16u));
    let other = (a & mask) * b_high + (across & mask);
    return a_high * b_high + (across >> U(16u)) + (other >> U(16u));
}

// Least maximum relative error polynomials for r in [-pi/4, pi/4] (6e-9, 1e-9).
fn sine_near(r: F) -> F {
    let z = r * r;
    return r + r * z * (F(-0.16666655) + z * (F(0.0083321761) + z * F(-0.00019516978)));
}

fn cosine_near(r: F) -> F {
    let z = r * r;
    return F(1.0) + (F(-0.5) * z + z * z * (F(0.041666646) + z * (F(-0.0013887364) + z * F(2.4438090e-5))));
}

// `value` where x is finite, else NaN.
fn periodic(value: F, x: F) -> F {
    return select(to_nan(x), value, is_finite(x));
}

fn sin_full(x: F) -> F {
    let turn = turn_of(abs(x));
    let value = select(sine_near(turn.r), cosine_near(turn.r), (turn.quarters & U(1u)) != U(0u));
    let sign = ((turn.quarters << U(30u)) ^ bitcast<U>(x)) & U(0x80000000u);
    return periodic(bitcast<F>(bitcast<U>(value) ^ sign), x);
}

// The sine a quarter further on.
fn cos_full(x: F) -> F {
    let turn = turn_of(abs(x));
    let value = select(cosine_near(turn.r), sine_near(turn.r), (turn.quarters & U(1u)) != U(0u));
    let sign = ((turn.quarters + U(1u)) << U(30u)) & U(0x80000000u);
    return periodic(bitcast<F>(bitcast<U>(value) ^ sign), x);
}

fn tan_full(x: F) -> F {
    let turn = turn_of(abs(x));
    let odd = (turn.quarters & U(1u)) != U(0u);
    let sine = sine_near(turn.r);
    let cosine = cosine_near(turn.r);
    let value = select(sine, -cosine, odd) / select(cosine, sine, odd);
    return periodic(bitcast<F>(bitcast<U>(value) ^ (bitcast<U>(x) & U(0x80000000u))), x);
}

// asin(x) for |x| up to 1/2 (least maximum relative error 6e-9).
fn arc_sine_near(x: F) -> F {
    let z = x * x;
    let tail = F(0.045478348) + z * (F(0.024140975) + z * F(0.042230573));
    return x + x * z * (F(0.16666754) + z * (F(0.074952327) + z * tail));
}

// sqrt((1 - |x|) / 2): the sine of half of what is missing to a quarter turn.
fn half_of_missing(size: F) -> F {
    return sqrt(max(F(0.5) - F(0.5) * size, F(0.0)));
}

// `value` where |x| is at most 1, else NaN.
fn of_sine(value: F, x: F) -> F {
    return select(to_nan(x), value, abs(x) <= F(1.0));
}

// pi/2 is 1.5707964 - 4.371139e-8, pi twice that.
fn asin_full(x: F) -> F {
    let size = abs(x);
    let far = size > F(0.5);
    let near = arc_sine_near(select(size, half_of_missing(size), far));
    return of_sine(signed_as(select(near, F(1.5707964) - (F(2.0) * near + F(4.371139e-8)), far), x), x);
}

fn acos_full(x: F) -> F {
    let far = abs(x) > F(0.5);
    let near = arc_sine_near(select(x, half_of_missing(abs(x)), far));
    let value = F(1.5707964) - (near + F(4.371139e-8));
    let end = select(F(2.0) * near, F(3.1415927) - (F(2.0) * near + F(8.742278e-8)), x < F(0.0));
    return of_sine(select(value, end, far), x);
}

// atan(t) for t from 0 on: that of (t - 1) / (t + 1) lies pi/4 below, that of -1 / t pi/2 (least maximum relative error 2e-8 to tan(pi/8)).
fn arc_tangent(t: F) -> F {
    let far = t > F(2.4142137);
    let middle = (t > F(0.41421356)) & !far;
    let top = select(select(t, t - F(1.0), middle), F(-1.0), far);
    let under = select(select(F(1.0), t + F(1.0), middle), t, far);
    let u = top / under;
    let z = u * u;
    let near = u + u * z * (F(-0.33332956) + z * (F(0.19977924) + z * (F(-0.13879828) + z * F(0.080602303))));
    let base = select(select(F(0.0), F(0.7853982), middle), F(1.5707964), far);
    return base + (near - select(select(F(0.0), F(2.1855695e-8), middle), F(4.371139e-8), far));
}

fn atan_full(x: F) -> F {
    return select(signed_as(arc_tangent(abs(x)), x), x, is_nan(x));
}

// The angle of (x, y), called with y first. Sides near the ends of the range are scaled: a quotient need not be right there.
fn atan2_full(y: F, x: F) -> F {
    let high = max(abs(x), abs(y));
    let low = min(abs(x), abs(y));
    let by = select(select(F(1.0), F(5.9604645e-8), high > F(1.0e30)), F(1.6777216e7), high < F(1.0e-30));
    let even = low == high;
    let ratio = select((low * by) / select(high * by, F(1.0), even), F(1.0), even & (high > F(0.0)));
    let near = arc_tangent(ratio);
    let half = select(near, F(1.5707964) - (near + F(4.371139e-8)), abs(y) > abs(x));
    let whole = select(half, F(3.1415927) - (half + F(8.742278e-8)), bitcast<U>(x) >= U(0x80000000u));
    return with_nan(signed_as(whole, y), x, y);
}

// From t = e^|x| - 1, which keeps the digits near 0; from 88 on e^x alone would be infinite too early.
fn sinh_full(x: F) -> F {
    let size = abs(x);
    let t = expm1(min(size, F(88.0)));
    let root = exp_full(F(0.5) * size);
    let value = select(F(0.5) * (t + t / (t + F(1.0))), (F(0.5) * root) * root, size > F(88.0));
    return select(signed_as(value, x), x, is_nan(x));
}

fn cosh_full(x: F) -> F {
    let size = abs(x);
    let t = exp_full(min(size, F(88.0)));
    let root = exp_full(F(0.5) * size);
    let value = select(F(0.5) * t + F(0.5) / t, (F(0.5) * root) * root, size > F(88.0));
    return select(value, x, is_nan(x));
}

// log(q + sqrt(q^2 + 1)) as log1p(q + q^2 / (1 + sqrt(q^2 + 1))); far out log(2 |x|).
fn asinh_full(x: F) -> F {
    let size = abs(x);
    let q = min(size, F(1.0e9));
    let near = log1p(q + q * q / (F(1.0) + sqrt(q * q + F(1.0))));
    let value = select(near, log_full(size) + F(0.69314718), size > F(1.0e9));
    return select(signed_as(value, x), x, is_nan(x));
}

fn acosh_full(x: F) -> F {
    let above = clamp(x - F(1.0), F(0.0), F(1.0e9));
    let near = log1p(above + sqrt(above * (above + F(2.0))));
    let value = select(near, log_full(x) + F(0.69314718), x > F(1.0e9));
    return select(select(to_nan(x), value, x >= F(1.0)), x, is_nan(x));
}

fn atanh_full(x: F) -> F {
    let size = abs(x);
    let inside = min(size, F(0.99999994));
    let infinite = bitcast<F>(U(0x7f800000u) + (bitcast<U>(x) & U(0u)));
    let value = select(F(0.5) * log1p(F(2.0) * inside / (F(1.0) - inside)), infinite, size >= F(1.0));
    return of_sine(signed_as(value, x), x);
}
