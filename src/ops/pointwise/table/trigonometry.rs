//! Sine and its kin, their inverses, and the hyperbolic ones.

use super::row::{Kind, Row, one, rows};
use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;
use std::f64::consts::LN_2;

/// The least normal f32.
const LEAST_NORMAL: f64 = 1.175_494_350_822_287_5e-38;

rows! {

    SIN "sin" Float Opaque 1 "sin_full(a)", |a, _, _| a.sin(), Some(|w| one(w.grad * w.inputs[0].cos()));
    COS "cos" Float Opaque 1 "cos_full(a)", |a, _, _| a.cos(), Some(|w| one(-(w.grad * w.inputs[0].sin())));
    TAN "tan" Float Opaque 1 "tan_full(a)", |a, _, _| a.tan(), Some(|w| one(w.grad * w.output.square().offset(1.0)));
    ASIN "asin" Float Opaque 1 "asin_full(a)", |a, _, _| a.asin(), Some(|w| one(w.grad * of_circle(&w.inputs[0]).rsqrt()));
    ACOS "acos" Float Opaque 1 "acos_full(a)", |a, _, _| a.acos(), Some(|w| one(-(w.grad * of_circle(&w.inputs[0]).rsqrt())));
    ATAN "atan" Float Opaque 1 "atan_full(a)", |a, _, _| a.atan(),
        Some(|w| one(w.grad / squarable(&w.inputs[0]).square().offset(1.0)));
    ATAN2 "atan2" Float Opaque 2 "atan2_full(a, b)", |a, b, _| a.atan2(b), Some(atan2);
    SINH "sinh" Float Opaque 1 "sinh_full(a)", |a, _, _| a.sinh(), Some(|w| one(w.grad * w.inputs[0].cosh()));
    COSH "cosh" Float Opaque 1 "cosh_full(a)", |a, _, _| a.cosh(), Some(|w| one(w.grad * w.inputs[0].sinh()));
    TANH "tanh" Float Opaque 1 "tanh_full(a)", |a, _, _| a.tanh(),
        Some(|w| one(w.grad * ((-w.output).offset(1.0) * w.output.offset(1.0))));
    // The standard library's own loses its digits on the left.
    ASINH "asinh" Float Opaque 1 "asinh_full(a)", |a, _, _| asinh(a),
        Some(|w| one(w.grad / w.inputs[0].hypot(1.0)));
    ACOSH "acosh" Float Opaque 1 "acosh_full(a)", |a, _, _| acosh(a),
        Some(|w| one(w.grad * (w.inputs[0].offset(-1.0).rsqrt() * w.inputs[0].offset(1.0).rsqrt())));
    ATANH "atanh" Float Opaque 1 "atanh_full(a)", |a, _, _| 0.5 * ((2.0 * a.abs() / (1.0 - a.abs())).ln_1p()).copysign(a),
        Some(|w| one(w.grad * of_circle(&w.inputs[0]).rsqrt().square()));
}

/// 1 - x^2: as a product near 1, where a difference loses its digits, and as a difference near 0, where the slope of a product does.
fn of_circle(x: &Tensor) -> Tensor {
    let product = (-x).offset(1.0) * x.offset(1.0);
    x.abs().lt(0.5).where_(&(-x.square()).offset(1.0), &product)
}

/// x within bounds whose square f32 holds, beyond which 1 / (1 + x^2) is less than its normal numbers.
fn squarable(x: &Tensor) -> Tensor {
    x.clamp(-1.8e19, 1.8e19)
}

/// (x, -y) / (x^2 + y^2) without the squares; 0 at the origin.
fn atan2(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (y, x) = (&w.inputs[0], &w.inputs[1]);
    let away = y.hypot(x).maximum(LEAST_NORMAL);
    let slope = |side: &Tensor| w.grad * (side / &away / &away);
    vec![w.needs[0].then(|| slope(x)), w.needs[1].then(|| -slope(y))]
}

fn asinh(x: f64) -> f64 {
    let size = x.abs();
    let value =
        if size > 1e9 { size.ln() + LN_2 } else { (size + size * size / (1.0 + (size * size + 1.0).sqrt())).ln_1p() };
    value.copysign(x)
}

fn acosh(x: f64) -> f64 {
    let above = x - 1.0;
    if x < 1.0 {
        return f64::NAN;
    }
    if x > 1e9 { x.ln() + LN_2 } else { (above + (above * (above + 2.0)).sqrt()).ln_1p() }
}
