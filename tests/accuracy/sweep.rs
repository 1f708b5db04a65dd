//! Values and first and second derivatives of every pointwise op at hard points, against closed forms in f64. A new op adds
//! its closed forms to `sweeps`.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

use kiln::ops::pointwise::Pointwise;
use kiln::ops::pointwise::table::{ROWS, Row};
use kiln::prelude::*;

use crate::{INF, NAN, close, common, devices, rounded, unit, values};

const TWO_24: f64 = 16_777_216.0;

/// Where floats overflow, vanish, cancel, saturate or are none.
const HARD: [f64; 44] = [
    0.0, -0.0, 1e-30, -1e-30, 1e-10, -1e-10, 1e-4, -1e-4, 0.3, -0.3, 0.5, -0.5, 1.0, -1.0, 1.3, -1.3, 2.5, -2.5, 5.0,
    -5.0, 7.7, -7.7, 10.0, -10.0, 15.0, -15.0, 20.0, -20.0, 60.0, -60.0, 88.7, -88.7, 100.0, -100.0, TWO_24, -TWO_24,
    1e20, -1e20, 1e38, -1e38, INF, -INF, NAN, 37.0,
];

pub fn erfc(x: f64) -> f64 {
    if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return if x < -6.0 { 2.0 } else { 1.0 - FRAC_2_SQRT_PI * sum };
    }
    let fraction = (1..300).rev().fold(x, |f, k| x + f64::from(k) / 2.0 / f);
    (-x * x).exp() / (fraction * PI.sqrt())
}

fn erf(x: f64) -> f64 {
    let near = FRAC_2_SQRT_PI * (x - x.powi(3) / 3.0 + x.powi(5) / 10.0 - x.powi(7) / 42.0);
    if x.abs() < 0.02 { near } else { (1.0 - erfc(x.abs())).copysign(x) }
}

fn cdf(x: f64) -> f64 {
    if x > 0.0 { 1.0 - 0.5 * erfc(x * FRAC_1_SQRT_2) } else { 0.5 * erfc(-x * FRAC_1_SQRT_2) }
}

fn pdf(x: f64) -> f64 {
    (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// 1 / cosh(x)^2
fn sech2(x: f64) -> f64 {
    let e = (-2.0 * x.abs()).exp();
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// 2 u of the tanh form of GELU, and its derivatives.
fn inner(x: f64) -> [f64; 3] {
    let scale = 2.0 * (2.0 / PI).sqrt();
    [scale * (x + 0.044_715 * x * x * x), scale * (1.0 + 3.0 * 0.044_715 * x * x), scale * 6.0 * 0.044_715 * x]
}

/// `factor * other`, where a factor of 0 wins over infinity.
pub fn vanishing(factor: f64, other: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { factor * other }
}

/// What a row of the table must give.
pub struct Sweep {
    pub name: &'static str,
    /// Second inputs to try.
    pub others: Vec<f64>,
    /// Third input.
    pub third: f64,
    /// Value, first and second derivative with respect to the first input.
    pub forms: Forms,
    /// Units in the last place that each may be off, at x.
    pub units: fn(f64) -> [f64; 3],
    /// Absolute error that each may have.
    pub absolute: [f64; 3],
}

/// Value, first and second derivative at (x, other).
pub type Forms = [fn(f64, f64) -> f64; 3];

pub fn sweep(name: &'static str, forms: Forms) -> Sweep {
    Sweep { name, others: vec![0.0], third: 0.0, forms, units: |_| [2.0, 4.0, 8.0], absolute: [0.0; 3] }
}

fn sweeps() -> Vec<Sweep> {
    // Roundings of x^2 in an exponent.
    let gaussian: fn(f64) -> [f64; 3] = |x| [12.0, 12.0 + 2.0 * (x * x).min(400.0), 24.0 + 4.0 * (x * x).min(400.0)];
    let unary: Vec<(&'static str, Forms)> = vec![
        ("exp", [|x, _| x.exp(), |x, _| x.exp(), |x, _| x.exp()]),
        ("log", [|x, _| x.ln(), |x, _| 1.0 / x, |x, _| -1.0 / x / x]),
        ("sqrt", [|x, _| x.sqrt(), |x, _| 0.5 / x.sqrt(), |x, _| -0.25 / x.sqrt().powi(3)]),
        ("abs", [|x, _| x.abs(), |x, _| if x == 0.0 { 0.0 } else { x.signum() }, |_, _| 0.0]),
        ("sign", [|x, _| if x == 0.0 || x.is_nan() { x } else { x.signum() }, |_, _| 0.0, |_, _| 0.0]),
        ("neg", [|x, _| -x, |_, _| -1.0, |_, _| 0.0]),
        ("recip", [|x, _| 1.0 / x, |x, _| -1.0 / x / x, |x, _| 2.0 / x / x / x]),
        ("expm1", [|x, _| x.exp_m1(), |x, _| x.exp(), |x, _| x.exp()]),
        ("log1p", [|x, _| x.ln_1p(), |x, _| 1.0 / (1.0 + x), |x, _| -1.0 / (1.0 + x) / (1.0 + x)]),
        ("relu", [|x, _| if x < 0.0 { 0.0 } else { x }, |x, _| if x <= 0.0 { 0.0 } else { 1.0 }, |_, _| 0.0]),
        (
            "silu",
            [
                |x, _| x * sigmoid(x),
                |x, _| sigmoid(x) + vanishing(sigmoid(x) * sigmoid(-x), x),
                |x, _| vanishing(sigmoid(x) * sigmoid(-x), 2.0 + x * (1.0 - 2.0 * sigmoid(x))),
            ],
        ),
        (
            "sigmoid",
            [
                |x, _| sigmoid(x),
                |x, _| sigmoid(x) * sigmoid(-x),
                |x, _| sigmoid(x) * sigmoid(-x) * (1.0 - 2.0 * sigmoid(x)),
            ],
        ),
        ("tanh", [|x, _| x.tanh(), |x, _| sech2(x), |x, _| -2.0 * x.tanh() * sech2(x)]),
        (
            "softplus",
            [
                |x, _| if x.is_nan() { x } else { x.max(0.0) + (-x.abs()).exp().ln_1p() },
                |x, _| sigmoid(x),
                |x, _| sigmoid(x) * sigmoid(-x),
            ],
        ),
        ("normal_cdf", [|x, _| cdf(x), |x, _| pdf(x), |x, _| vanishing(pdf(x), -x)]),
        ("gelu", [|x, _| x * cdf(x), |x, _| cdf(x) + vanishing(pdf(x), x), |x, _| vanishing(pdf(x), 2.0 - x * x)]),
        (
            "gelu_tanh",
            [
                |x, _| x * sigmoid(inner(x)[0]),
                |x, _| sigmoid(inner(x)[0]) + vanishing(sigmoid(inner(x)[0]) * sigmoid(-inner(x)[0]), x * inner(x)[1]),
                |x, _| {
                    let [u, du, ddu] = inner(x);
                    let bend = sigmoid(u) * sigmoid(-u);
                    vanishing(bend, 2.0 * du + x * ddu + x * du * du * (1.0 - 2.0 * sigmoid(u)))
                },
            ],
        ),
        (
            "erf",
            [
                |x, _| erf(x),
                |x, _| FRAC_2_SQRT_PI * (-x * x).exp(),
                |x, _| vanishing(FRAC_2_SQRT_PI * (-x * x).exp(), -2.0 * x),
            ],
        ),
    ];
    let mut all: Vec<Sweep> = unary.into_iter().map(|(name, forms)| sweep(name, forms)).collect();
    for row in &mut all {
        match row.name {
            // From the result: as exact as the result is near its bound.
            "sigmoid" => row.absolute = [0.0, 1.3e-7, 2.6e-7],
            "softplus" => row.absolute = [0.0, 0.0, 1.3e-7],
            "tanh" => row.absolute = [0.0, 1.3e-7, 2.6e-7],
            "normal_cdf" | "erf" => row.units = gaussian,
            "gelu" => (row.units, row.absolute) = (gaussian, [0.0, 1e-7, 1e-6]),
            "silu" => (row.units, row.absolute) = (|_| [4.0, 8.0, 16.0], [0.0, 2e-7, 1e-6]),
            // The exponent is 1.6 (x + 0.04 x^3), rounded.
            "gelu_tanh" => {
                row.units = |x| [1.0, 2.0, 4.0].map(|by| by * (8.0 + 3.0 * inner(x)[0].abs().min(100.0)));
                row.absolute = [0.0, 2e-7, 2e-6];
            }
            "log" => row.units = |_| [4.0, 4.0, 8.0],
            "log1p" => row.units = |x| if x == -1.0 { [4.0; 3] } else { [6.0, 4.0, 8.0] },
            _ => {}
        }
    }
    let slopes: [(&'static str, f64, Forms); 2] = [
        ("leaky_relu", 0.2, [|x, b| if x > 0.0 { x } else { b * x }, |x, b| if x > 0.0 { 1.0 } else { b }, |_, _| 0.0]),
        (
            "elu",
            1.5,
            [
                |x, b| if x > 0.0 { x } else { b * x.exp_m1() },
                |x, b| if x > 0.0 { 1.0 } else { b * x.exp() },
                |x, b| if x > 0.0 { 0.0 } else { b * x.exp() },
            ],
        ),
    ];
    all.extend(slopes.map(|(name, slope, forms)| Sweep { others: vec![slope], ..sweep(name, forms) }));
    let targets: Forms = [
        |x, t| if x > 0.0 { x * (1.0 - t) } else { -x * t } + (-x.abs()).exp().ln_1p(),
        |x, t| (1.0 - t) * sigmoid(x) - t * sigmoid(-x),
        |x, _| sigmoid(x) * sigmoid(-x),
    ];
    all.push(Sweep {
        others: vec![0.0, 1.0, 0.25],
        units: |_| [4.0, 8.0, 8.0],
        absolute: [0.0, 1e-7, 1.3e-7],
        ..sweep("logistic_loss", targets)
    });
    // The other operand of two: hard ones, too.
    let forms: [(&'static str, Forms); 6] = [
        ("add", [|x, b| x + b, |_, _| 1.0, |_, _| 0.0]),
        ("sub", [|x, b| x - b, |_, _| 1.0, |_, _| 0.0]),
        ("mul", [|x, b| x * b, |_, b| b, |_, _| 0.0]),
        ("div", [|x, b| x / b, |_, b| 1.0 / b, |_, _| 0.0]),
        (
            "minimum",
            [
                |x, b| if x.is_nan() || x < b { x } else { b },
                |x, b| if x == b { 0.5 } else { f64::from(u8::from(x < b)) },
                |_, _| 0.0,
            ],
        ),
        (
            "maximum",
            [
                |x, b| if x.is_nan() || x > b { x } else { b },
                |x, b| if x == b { 0.5 } else { f64::from(u8::from(x > b)) },
                |_, _| 0.0,
            ],
        ),
    ];
    let hard = vec![0.7, -3.0, 1e20, 1e-30, 0.0, 1e38, INF];
    all.extend(forms.map(|(name, forms)| Sweep { others: hard.clone(), ..sweep(name, forms) }));
    let powers: [fn(f64, f64) -> f64; 3] = [
        f64::powf,
        |x, b| if b == 0.0 { 0.0 } else { b * x.powf(b - 1.0) },
        |x, b| if b == 0.0 || b == 1.0 { 0.0 } else { b * (b - 1.0) * x.powf(b - 2.0) },
    ];
    let exponents = vec![0.0, 0.5, 1.0, 2.0, 3.0, -1.0, -2.0, 1.5, 7.3];
    all.push(Sweep { others: exponents, units: |_| [1.0, 3.0, 5.0], ..sweep("pow", powers) });
    let bounds: [fn(f64, f64) -> f64; 3] = [
        |x, low| if x.is_nan() { x } else { x.max(low).min(10.0) },
        |x, low| if x > low && x < 10.0 { 1.0 } else { 0.0 },
        |_, _| 0.0,
    ];
    all.push(Sweep { others: vec![-1.0], third: 10.0, ..sweep("clamp", bounds) });
    all.extend(crate::forms::sweeps());
    all
}

/// Value, first and second derivative of `row` with respect to the first of its inputs, computed in one plan.
fn derivatives(device: &Device, row: &'static Row, inputs: [&[f64]; 3]) -> [Vec<f64>; 3] {
    let upload = |values: &[f64]| {
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        device.tensor(&values, &[values.len()])
    };
    let [x, b, c] = inputs.map(upload);
    let x = x.variable();
    let inputs: Vec<&Tensor> = [&x, &b, &c].into_iter().take(row.arity).collect();
    let y = Tensor::apply(Pointwise(row), &inputs);
    let first = y.sum_all().gradients(&[&x]).unwrap().remove(0);
    let second = match first.requires_grad() {
        true => first.sum_all().gradients(&[&x]).unwrap().remove(0),
        false => device.zeros(&[x.shape().unwrap()[0]]),
    };
    device.eval(&[&y, &first, &second]).unwrap();
    [&y, &first, &second].map(values)
}

#[test]
fn every_pointwise_row_and_its_derivatives_hold_at_hard_points() {
    let mut points = rounded(&HARD);
    points.extend(common::normals(&[37], 5).data);
    let mut failures = vec![];
    for sweep in sweeps() {
        let row = ROWS.iter().find(|row| row.name == sweep.name);
        let Some(row) = row else {
            failures.push(format!("there is no row {}", sweep.name));
            continue;
        };
        for device in devices() {
            let others = rounded(&sweep.others);
            let each = points.iter().flat_map(|&x| others.iter().map(move |&other| (x, other)));
            let (x, other): (Vec<f64>, Vec<f64>) = each.unzip();
            let got = derivatives(&device, row, [&x, &other, &[sweep.third]]);
            for (i, (&x, &other)) in x.iter().zip(&other).enumerate() {
                for (order, got) in got.iter().enumerate() {
                    let want = (sweep.forms[order])(x, other);
                    // A rule of ops that are NaN at NaN has no derivative there; that of a mask has one.
                    if x.is_nan() && order > 0 {
                        continue;
                    }
                    if !close(got[i], want, (sweep.units)(x)[order], sweep.absolute[order]) {
                        let off = (got[i] - want).abs() / unit(want);
                        failures.push(format!(
                            "{}, derivative {order} at {x:e}, {other:e} on {}: {:e} instead of {want:e} ({off:.1} units)",
                            sweep.name,
                            device.name(),
                            got[i]
                        ));
                    }
                }
            }
        }
    }
    let covered = |row: &&&Row| row.derivative.is_some() && row.name != "where";
    for row in ROWS.iter().filter(covered) {
        if !sweeps().iter().any(|sweep| sweep.name == row.name) {
            failures.push(format!("no closed form is given for {}", row.name));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn comparisons_and_choices_hold_at_hard_points() {
    let points = rounded(&HARD);
    let others: Vec<f64> = points.iter().rev().copied().collect();
    type Form = fn(f64, f64) -> bool;
    let forms: [(&str, Form); 6] = [
        ("eq", |a, b| a == b),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ];
    for device in [Device::cpu(), common::gpu(), common::backend("gl")] {
        let upload = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
            device.tensor(&values, &[values.len()])
        };
        let (a, b) = (upload(&points), upload(&others));
        for (name, form) in forms {
            let row = ROWS.iter().find(|row| row.name == name).unwrap();
            for (left, right, other) in [(&a, &b, &others), (&a, &a, &points)] {
                let compared = Tensor::apply(Pointwise(row), &[left, right]);
                let not = compared.logical_not();
                let chosen = compared.where_(left, right);
                device.eval(&[&compared, &not, &chosen]).unwrap();
                let (compared, not, chosen) = (values(&compared), values(&not), values(&chosen));
                for (i, (&x, &y)) in points.iter().zip(other).enumerate() {
                    let want = form(x, y);
                    let text = format!("{name} of {x:e} and {y:e} on {}", device.name());
                    assert_eq!(compared[i] != 0.0, want, "{text}");
                    assert_eq!(not[i] != 0.0, !want, "not {text}");
                    let value = if want { x } else { y };
                    assert!(close(chosen[i], value, 0.0, 0.0), "where {text}: {:e}", chosen[i]);
                }
            }
        }
    }
}
