//! Exponentials, logarithms and the functions of the normal distribution.

use std::f64::consts::{FRAC_1_SQRT_2 as SQRT_HALF, FRAC_2_SQRT_PI, LN_2, LN_10};

use super::row::{Kind, Row, one, rows};
use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;

/// 1 / sqrt(2 pi).
const DENSITY: f64 = 0.398_942_280_401_432_7;

rows! {
    EXP "exp" Float Opaque 1 "exp_full(a)", |a, _, _| a.exp(), Some(|w| one(w.grad * w.output));
    EXPM1 "expm1" Float Opaque 1 "expm1(a)", |a, _, _| a.exp_m1(), Some(|w| one(w.grad * w.inputs[0].exp()));
    LOG "log" Float Opaque 1 "log_full(a)", |a, _, _| a.ln(), Some(|w| one(w.grad / &w.inputs[0]));
    LOG1P "log1p" Float Opaque 1 "log1p(a)", |a, _, _| a.ln_1p(), Some(|w| one(w.grad / w.inputs[0].offset(1.0)));
    SOFTPLUS "softplus" Float Opaque 1 "with_nan(max(a, F(0.0)) + log1p(exp_full(-abs(a))), a, a)",
        |a, _, _| if a.is_nan() { a } else { a.max(0.0) + (-a.abs()).exp().ln_1p() },
        Some(|w| one(w.grad * w.inputs[0].sigmoid()));
    NORMAL_CDF "normal_cdf" Float Opaque 1 "normal_cdf(a)", |a, _, _| normal_cdf(a), Some(|w| one(w.grad * density(&within(&w.inputs[0]))));
    ERF "erf" Float Opaque 1 "erf(a)", |a, _, _| libm_erf(a),
        // 2 / sqrt(pi) exp(-x^2), which is 0 beyond the bounds, where its slope would be 0 times infinity.
        Some(|w| one(w.grad * (-w.inputs[0].clamp(-20.0, 20.0).square()).exp().scale(FRAC_2_SQRT_PI)));
    // (1 - b) a + log(1 + e^-a) for b in [0, 1], without the difference of two large numbers.
    LOGISTIC_LOSS "logistic_loss" Float Mixed 2
        "with_nan(select(-a * b, a * (F(1.0) - b), a > F(0.0)) + log1p(exp_full(-abs(a))), a, b)",
        |a, b, _| if a > 0.0 { a * (1.0 - b) } else { -a * b } + (-a.abs()).exp().ln_1p(),
        Some(logistic_loss);
    EXP2 "exp2" Float Opaque 1 "exp2_full(a)", |a, _, _| a.exp2(), Some(|w| one((w.grad * w.output).scale(LN_2)));
    LOG2 "log2" Float Opaque 1 "log2_full(a)", |a, _, _| a.log2(), Some(|w| one((w.grad / &w.inputs[0]).scale(1.0 / LN_2)));
    LOG10 "log10" Float Opaque 1 "log10_full(a)", |a, _, _| a.log10(),
        Some(|w| one((w.grad / &w.inputs[0]).scale(1.0 / LN_10)));
    ERFC "erfc" Float Opaque 1 "erfc(a)", |a, _, _| erfc(a),
        Some(|w| one(-(w.grad * (-w.inputs[0].clamp(-20.0, 20.0).square()).exp().scale(FRAC_2_SQRT_PI))));
    LOGADDEXP "logaddexp" Float Mixed 2 "log_of_sum(a, b)", |a, b, _| log_of_sum(a, b),
        Some(|w| vec![
            w.needs[0].then(|| w.grad * (&w.inputs[0] - &w.inputs[1]).sigmoid()),
            w.needs[1].then(|| w.grad * (&w.inputs[1] - &w.inputs[0]).sigmoid()),
        ]);
}

/// sigmoid(a) - b as (1 - b) sigmoid(a) - b sigmoid(-a): exact for a target of 0 and of 1.
fn logistic_loss(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, b) = (&w.inputs[0], &w.inputs[1]);
    let logit = w.needs[0].then(|| w.grad * ((-b).offset(1.0) * a.sigmoid() - b * (-a).sigmoid()));
    vec![logit, w.needs[1].then(|| -(w.grad * a))]
}

/// exp(-x^2 / 2) / sqrt(2 pi)
pub(super) fn density(x: &Tensor) -> Tensor {
    x.square().scale(-0.5).exp().scale(DENSITY)
}

/// x within bounds beyond which these functions and their slopes do not change by a bit: infinity times 0 is NaN.
pub(super) fn within(x: &Tensor) -> Tensor {
    x.clamp(-40.0, 40.0)
}

/// The normal distribution's share below x, without cancellation on either side.
pub(super) fn normal_cdf(x: f64) -> f64 {
    let z = x.abs() * SQRT_HALF;
    let half = if z > 3.0 { 0.5 * far_erfc(z) } else { 0.5 - 0.5 * libm_erf(z) };
    if x.is_nan() {
        x
    } else if x > 0.0 {
        1.0 - half
    } else {
        half
    }
}

/// erf to f64 precision: the Maclaurin series up to 3, the continued fraction of erfc (Lentz) beyond.
pub fn libm_erf(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let z = x.abs();
    if z > 6.0 {
        return x.signum();
    }
    if z < 3.0 {
        // erf(x) = 2/sqrt(pi) e^{-x^2} sum_n 2^n x^{2n+1} / (2n+1)!!: all terms positive, no cancellation.
        let (mut term, mut sum, mut n) = (z, z, 0.0);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= 2.0 * z * z / (2.0 * n + 1.0);
            sum += term;
        }
        return (FRAC_2_SQRT_PI * (-z * z).exp() * sum).copysign(x);
    }
    (1.0 - far_erfc(z)).copysign(x)
}

/// 1 - erf(z) for z of at least 3.
fn far_erfc(z: f64) -> f64 {
    let mut fraction = z;
    for k in (1..=60).rev() {
        fraction = z + f64::from(k) / 2.0 / fraction;
    }
    (-z * z).exp() / (fraction * std::f64::consts::PI.sqrt())
}

/// 1 - erf(x), which keeps its digits where that is small.
fn erfc(x: f64) -> f64 {
    if x > 3.0 { far_erfc(x) } else { 1.0 - libm_erf(x) }
}

fn log_of_sum(a: f64, b: f64) -> f64 {
    let apart = if a == b { 0.0 } else { (a - b).abs() };
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) + (-apart).exp().ln_1p() }
}
