//! Closed forms of more rows: trigonometry, logarithms to other bases, remainders, activations.

use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, LN_10};

use crate::sweep::{Forms, Sweep, erfc, sigmoid, sweep, vanishing};
use crate::{INF, NAN};

/// NaN at the ends of the domain, where the slope is infinite and has none.
fn inside(x: f64, value: f64) -> f64 {
    if x.abs() == 1.0 { NAN } else { value }
}

fn mish(x: f64) -> [f64; 4] {
    let u = if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() };
    let e = (-2.0 * u).exp();
    [u.tanh(), 4.0 * e / ((1.0 + e) * (1.0 + e)), sigmoid(x), x]
}

fn of_angles() -> Vec<Sweep> {
    let forms: Vec<(&'static str, Forms)> = vec![
        ("sin", [|x, _| x.sin(), |x, _| x.cos(), |x, _| -x.sin()]),
        ("cos", [|x, _| x.cos(), |x, _| -x.sin(), |x, _| -x.cos()]),
        ("tan", [|x, _| x.tan(), |x, _| 1.0 + x.tan().powi(2), |x, _| 2.0 * x.tan() * (1.0 + x.tan().powi(2))]),
        (
            "asin",
            [
                |x, _| x.asin(),
                |x, _| ((1.0 - x) * (1.0 + x)).sqrt().recip(),
                |x, _| inside(x, x * ((1.0 - x) * (1.0 + x)).sqrt().recip().powi(3)),
            ],
        ),
        (
            "acos",
            [
                |x, _| x.acos(),
                |x, _| -((1.0 - x) * (1.0 + x)).sqrt().recip(),
                |x, _| inside(x, -x * ((1.0 - x) * (1.0 + x)).sqrt().recip().powi(3)),
            ],
        ),
        (
            "atan",
            [|x, _| x.atan(), |x, _| 1.0 / (1.0 + x * x), |x, _| vanishing((1.0 + x * x).recip().powi(2), -2.0 * x)],
        ),
        ("sinh", [|x, _| x.sinh(), |x, _| x.cosh(), |x, _| x.sinh()]),
        ("cosh", [|x, _| x.cosh(), |x, _| x.sinh(), |x, _| x.cosh()]),
        (
            "asinh",
            [
                // The standard library's own cancels.
                |x, _| if x.abs() < 1e-3 { x - x.powi(3) / 6.0 } else { x.asinh() },
                |x, _| 1.0 / x.hypot(1.0),
                |x, _| -(x / x.hypot(1.0)) / x.hypot(1.0) / x.hypot(1.0),
            ],
        ),
        (
            "acosh",
            [
                |x, _| x.acosh(),
                |x, _| 1.0 / ((x - 1.0).sqrt() * (x + 1.0).sqrt()),
                |x, _| vanishing(1.0 / ((x - 1.0).sqrt() * (x + 1.0).sqrt()).powi(3), -x),
            ],
        ),
        (
            "atanh",
            [
                |x, _| x.atanh(),
                |x, _| if x.abs() > 1.0 { NAN } else { 1.0 / ((1.0 - x) * (1.0 + x)) },
                |x, _| if x.abs() >= 1.0 { NAN } else { 2.0 * x / ((1.0 - x) * (1.0 + x)).powi(2) },
            ],
        ),
    ];
    let mut all: Vec<Sweep> =
        forms.into_iter().map(|(name, forms)| Sweep { units: |_| [6.0, 8.0, 24.0], ..sweep(name, forms) }).collect();
    all.push(Sweep {
        others: vec![0.7, -3.0, 1e20],
        units: |_| [4.0, 8.0, 24.0],
        ..sweep(
            "atan2",
            [
                f64::atan2,
                |y, x| x / y.hypot(x) / y.hypot(x),
                |y, x| -2.0 * (y / y.hypot(x)) * (x / y.hypot(x)) / y.hypot(x) / y.hypot(x),
            ],
        )
    });
    all
}

fn of_logarithms() -> Vec<Sweep> {
    let forms: [(&'static str, Forms); 4] = [
        ("exp2", [|x, _| x.exp2(), |x, _| x.exp2() * LN_2, |x, _| x.exp2() * LN_2 * LN_2]),
        ("log2", [|x, _| x.log2(), |x, _| 1.0 / x / LN_2, |x, _| -1.0 / x / x / LN_2]),
        ("log10", [|x, _| x.log10(), |x, _| 1.0 / x / LN_10, |x, _| -1.0 / x / x / LN_10]),
        ("rsqrt", [|x, _| 1.0 / x.sqrt(), |x, _| -0.5 / x.sqrt().powi(3), |x, _| 0.75 / x.sqrt().powi(5)]),
    ];
    let mut all: Vec<Sweep> =
        forms.into_iter().map(|(name, forms)| Sweep { units: |_| [4.0, 6.0, 10.0], ..sweep(name, forms) }).collect();
    all.push(Sweep {
        units: |x| [12.0, 12.0 + 2.0 * (x * x).min(400.0), 24.0 + 4.0 * (x * x).min(400.0)],
        ..sweep(
            "erfc",
            [
                |x, _| erfc(x),
                |x, _| -FRAC_2_SQRT_PI * (-x * x).exp(),
                |x, _| vanishing(FRAC_2_SQRT_PI * (-x * x).exp(), 2.0 * x),
            ],
        )
    });
    all.push(Sweep {
        others: vec![0.7, -3.0, 1e20],
        units: |_| [4.0, 8.0, 8.0],
        absolute: [3e-7, 1.3e-7, 2.6e-7],
        ..sweep(
            "logaddexp",
            [
                |x, b| if x.is_nan() { x } else { x.max(b) + (-(x - b).abs()).exp().ln_1p() },
                |x, b| sigmoid(x - b),
                |x, b| sigmoid(x - b) * sigmoid(b - x),
            ],
        )
    });
    all
}

fn of_arithmetic() -> Vec<Sweep> {
    let zero: fn(f64, f64) -> f64 = |_, _| 0.0;
    let one: fn(f64, f64) -> f64 = |_, _| 1.0;
    let divisors = vec![0.7, -3.0, 1e-30, 1e20, INF];
    let floored: fn(f64, f64) -> f64 = |a, b| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    };
    vec![
        Sweep {
            others: vec![0.7, -3.0, 1e20],
            units: |_| [4.0, 6.0, 16.0],
            absolute: [0.0, 0.0, 6e-7],
            ..sweep("hypot", [f64::hypot, |x, b| x / x.hypot(b), |x, b| (1.0 - (x / x.hypot(b)).powi(2)) / x.hypot(b)])
        },
        Sweep {
            others: vec![0.7, -3.0],
            third: 0.25,
            absolute: [1e-6, 0.0, 0.0],
            ..sweep("lerp", [|x, b| x + 0.25 * (b - x), |_, _| 0.75, zero])
        },
        Sweep { others: divisors.clone(), ..sweep("fmod", [|a, b| a % b, one, zero]) },
        Sweep { others: divisors, ..sweep("remainder", [floored, one, zero]) },
    ]
}

fn of_activations() -> Vec<Sweep> {
    const SCALE: f64 = 1.050_700_987_355_480_5;
    const ALPHA: f64 = 1.673_263_242_354_377_2;
    let zero: fn(f64, f64) -> f64 = |_, _| 0.0;
    let hard: Vec<(&'static str, f64, f64, Forms)> = vec![
        ("prelu", 0.2, 0.0, [|x, b| if x > 0.0 { x } else { b * x }, |x, b| if x > 0.0 { 1.0 } else { b }, zero]),
        (
            "softshrink",
            0.4,
            0.0,
            [
                |x, b| if x.is_nan() { x } else { (x.abs() - b).max(0.0).copysign(x) },
                |x, b| f64::from(u8::from(x.abs() > b)),
                zero,
            ],
        ),
        (
            "hardshrink",
            0.4,
            0.0,
            [|x, b| if x.abs() <= b { 0.0 } else { x }, |x, b| f64::from(u8::from(x.abs() > b)), zero],
        ),
        ("threshold", 0.4, 2.0, [|x, b| if x <= b { 2.0 } else { x }, |x, b| f64::from(u8::from(x > b)), zero]),
        (
            "hardsigmoid",
            0.0,
            0.0,
            [
                |x, _| if x.is_nan() { x } else { (x + 3.0).clamp(0.0, 6.0) / 6.0 },
                |x, _| if x.abs() < 3.0 { 1.0 / 6.0 } else { 0.0 },
                zero,
            ],
        ),
        (
            "hardswish",
            0.0,
            0.0,
            [
                |x, _| if x.is_nan() { x } else { x * (x + 3.0).clamp(0.0, 6.0) / 6.0 },
                |x, _| {
                    if x <= -3.0 {
                        0.0
                    } else if x >= 3.0 {
                        1.0
                    } else {
                        x / 3.0 + 0.5
                    }
                },
                |x, _| if x.abs() < 3.0 { 1.0 / 3.0 } else { 0.0 },
            ],
        ),
        (
            "softsign",
            0.0,
            0.0,
            [
                |x, _| x / (1.0 + x.abs()),
                |x, _| (1.0 + x.abs()).recip().powi(2),
                |x, _| if x == 0.0 { 0.0 } else { -2.0 * x.signum() * (1.0 + x.abs()).recip().powi(3) },
            ],
        ),
        (
            "selu",
            0.0,
            0.0,
            [
                |x, _| SCALE * if x > 0.0 { x } else { ALPHA * x.exp_m1() },
                |x, _| SCALE * if x > 0.0 { 1.0 } else { ALPHA * x.exp() },
                |x, _| if x > 0.0 { 0.0 } else { SCALE * ALPHA * x.exp() },
            ],
        ),
    ];
    let make = |(name, other, third, forms): (&'static str, f64, f64, Forms)| Sweep {
        others: vec![other],
        third,
        units: |_| [4.0, 6.0, 10.0],
        ..sweep(name, forms)
    };
    let mut all: Vec<Sweep> = hard.into_iter().map(make).collect();
    // The quotient in the exponent is rounded.
    all.push(Sweep {
        others: vec![1.5],
        units: |x| [4.0, 6.0, 10.0].map(|units| units + x.abs().min(150.0)),
        ..sweep(
            "celu",
            [
                |x, b| if x > 0.0 { x } else { b * (x / b).exp_m1() },
                |x, b| if x > 0.0 { 1.0 } else { (x / b).exp() },
                |x, b| if x > 0.0 { 0.0 } else { (x / b).exp() / b },
            ],
        )
    });
    all.push(Sweep {
        units: |_| [6.0, 10.0, 20.0],
        // e^x is 0 below the normal numbers.
        absolute: [1e-36, 4e-7, 2e-6],
        ..sweep(
            "mish",
            [
                |x, _| x * mish(x)[0],
                |x, _| {
                    let [w, q, s, x] = mish(x);
                    w + vanishing(s * q, x)
                },
                |x, _| {
                    let [w, q, s, x] = mish(x);
                    vanishing(s * q, 2.0 + x * sigmoid(-x) - 2.0 * x * w * s)
                },
            ],
        )
    });
    all
}

pub fn sweeps() -> Vec<Sweep> {
    [of_angles(), of_logarithms(), of_arithmetic(), of_activations()].into_iter().flatten().collect()
}
