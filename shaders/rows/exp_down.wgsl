// The exponential of what is not above 0, for sums of exponentials of differences from a maximum.

// e^x for x <= 0: as exp_full without the cases above 0. What is below the normal numbers is 0.
fn exp_down(x: F) -> F {
    let limited = max(x, F(-87.5));
    let n = round(limited * F(1.44269504));
    let r = (limited - n * F(0.693359375)) + n * F(2.12194440e-4);
    let tail = F(0.16666667) + r * (F(0.041666668) + r * (F(0.0083333338) + r * (F(0.0013888889) + r * F(0.00019841270))));
    let poly = F(1.0) + (r + r * r * (F(0.5) + r * tail));
    return select(F(0.0), poly * bitcast<F>((I(n) + I(127)) << U(23u)), x > F(-87.3));
}
