//! Activation functions.

use super::exponentials::{density, normal_cdf, within};
use super::row::{Kind, Row, one, rows, zero};
use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;

/// sqrt(2 / pi), of the tanh form of GELU.
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
const TANH_CUBE: f64 = 0.044_715;
/// Those of Klambauer et al. 2017, with which a normal distribution keeps mean and variance.
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

rows! {
    RELU "relu" Signed Plain 1 "rectified(a)" int "max(a, I(0))", |a, _, _| if a < 0.0 { 0.0 } else { a },
        Some(|w| one(w.output.le(&zero(w)).where_(&zero(w), w.grad)));
    LEAKY_RELU "leaky_relu" Float Difference 2 "select(a * b, a, a > F(0.0))", |a, b, _| if a > 0.0 { a } else { a * b },
        Some(|w| vec![Some(w.inputs[0].gt(&zero(w)).where_(w.grad, &(w.grad * &w.inputs[1]))), None]);
    ELU "elu" Float Mixed 2 "select(b * expm1(a), a, a > F(0.0))", |a, b, _| if a > 0.0 { a } else { b * a.exp_m1() },
        Some(elu);
    GELU "gelu" Float Opaque 1 "a * normal_cdf(a)", |a, _, _| a * normal_cdf(a), Some(gelu);
    // (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits where tanh is near -1.
    GELU_TANH "gelu_tanh" Float Opaque 1 "a / (F(1.0) + exp_full(F(-1.5957691216) * (a + F(0.044715) * a * a * a)))",
        |a, _, _| a / (1.0 + (-2.0 * TANH_SCALE * (a + TANH_CUBE * a * a * a)).exp()), Some(gelu_tanh);
    SILU "silu" Float Opaque 1 "a / (F(1.0) + exp_full(-a))", |a, _, _| a / (1.0 + (-a).exp()), Some(silu);
    SIGMOID "sigmoid" Float Opaque 1 "sigmoid(a)", |a, _, _| 1.0 / (1.0 + (-a).exp()),
        // From the result, as PyTorch: near 1 it is as exact as the result.
        Some(|w| one(w.grad * (w.output * (-w.output).offset(1.0))));
    PRELU "prelu" Float Difference 2 "select(a * b, a, a > F(0.0))", |a, b, _| if a > 0.0 { a } else { a * b }, Some(prelu);
    SELU "selu" Float Mixed 1 "F(1.0507009) * select(F(1.6732632) * expm1(a), a, a > F(0.0))",
        |a, _, _| SELU_SCALE * if a > 0.0 { a } else { SELU_ALPHA * a.exp_m1() }, Some(selu);
    CELU "celu" Float Mixed 2 "select(b * expm1(a / b), a, a > F(0.0))",
        |a, b, _| if a > 0.0 { a } else { b * (a / b).exp_m1() }, Some(celu);
    MISH "mish" Float Opaque 1 "mish(a)", |a, _, _| mish(a), Some(mish_slope);
    HARD_SIGMOID "hardsigmoid" Float Plain 1 "with_nan(min(max(a + F(3.0), F(0.0)), F(6.0)) / F(6.0), a, a)",
        |a, _, _| hard(a) / 6.0, Some(|w| {
            let x = &w.inputs[0];
            let inside = x.gt(-3.0).logical_and(&x.lt(3.0));
            one(inside.where_(&w.grad.scale(1.0 / 6.0), &zero(w)))
        });
    HARD_SWISH "hardswish" Float Plain 1 "with_nan(a * (min(max(a + F(3.0), F(0.0)), F(6.0)) / F(6.0)), a, a)",
        |a, _, _| a * (hard(a) / 6.0), Some(hard_swish);
    SOFTSIGN "softsign" Float Quotient 1 "a / (F(1.0) + abs(a))", |a, _, _| a / (1.0 + a.abs()),
        Some(|w| one(w.grad * w.inputs[0].abs().offset(1.0).recip().square()));
    SOFTSHRINK "softshrink" Float Difference 2 "with_nan(select(select(F(0.0), a + b, a < -b), a - b, a > b), a, a)",
        |a, b, _| if a > b { a - b } else if a < -b { a + b } else if a.is_nan() { a } else { 0.0 }, Some(shrunk);
    HARDSHRINK "hardshrink" Float Difference 2 "select(a, F(0.0), abs(a) <= b)",
        |a, b, _| if a.abs() <= b { 0.0 } else { a }, Some(shrunk);
    THRESHOLD "threshold" Float Difference 3 "select(a, c, a <= b)", |a, b, c| if a <= b { c } else { a },
        Some(|w| vec![Some(w.inputs[0].le(&w.inputs[1]).where_(&zero(w), w.grad)), None, None]);
}

/// The exponential of what is above 0 is never formed: it overflows, and 0 times infinity is NaN in the second derivative.
fn elu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, alpha) = (&w.inputs[0], &w.inputs[1]);
    let positive = a.gt(&zero(w));
    let power = positive.where_(&zero(w), a).exp();
    vec![Some(positive.where_(w.grad, &(w.grad * (power * alpha)))), None]
}

fn gelu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let x = within(&w.inputs[0]);
    one(w.grad * (x.normal_cdf() + &x * density(&x)))
}

/// With s = sigmoid(2 u): s + x s (1 - s) 2 u'.
fn gelu_tanh(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let x = within(&w.inputs[0]);
    let square = x.square();
    let u = (square.scale(TANH_CUBE).offset(1.0) * &x).scale(2.0 * TANH_SCALE);
    let slope = square.scale(3.0 * TANH_CUBE).offset(1.0).scale(2.0 * TANH_SCALE);
    let s = u.sigmoid();
    let bend = &s * (-u).sigmoid();
    one(w.grad * (s + x * bend * slope))
}

/// s (1 + x (1 - s)), with 1 - s as sigmoid(-x).
fn silu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let x = w.inputs[0].clamp(-100.0, 100.0);
    let s = x.sigmoid();
    let bend = (-&x).sigmoid() * &x;
    one(w.grad * (&s + &s * bend))
}

fn prelu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (x, weight) = (&w.inputs[0], &w.inputs[1]);
    let positive = x.gt(&zero(w));
    vec![
        w.needs[0].then(|| positive.where_(w.grad, &(w.grad * weight))),
        w.needs[1].then(|| positive.where_(&zero(w), &(w.grad * x))),
    ]
}

fn selu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let positive = w.inputs[0].gt(&zero(w));
    let power = positive.where_(&zero(w), &w.inputs[0]).exp().scale(SELU_SCALE * SELU_ALPHA);
    one(positive.where_(&w.grad.scale(SELU_SCALE), &(w.grad * power)))
}

fn celu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, alpha) = (&w.inputs[0], &w.inputs[1]);
    let positive = a.gt(&zero(w));
    let power = (positive.where_(&zero(w), a) / alpha).exp();
    vec![Some(positive.where_(w.grad, &(w.grad * power))), None]
}

/// x tanh(log(1 + n)) = x t / (t + 2) with n = e^x and t = n (n + 2); beyond 20 the quotient is 1 to the last bit.
fn mish(x: f64) -> f64 {
    let n = x.min(40.0).exp();
    let t = n * (n + 2.0);
    if x.is_nan() { x } else { x * (t / (t + 2.0)) }
}

/// w + x s (1 - w^2), w = tanh(u), u = softplus(x), s = sigmoid(x); 1 - w = 2 sigmoid(-2 u) without cancellation.
fn mish_slope(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let x = w.inputs[0].clamp(-100.0, 100.0);
    let u = x.softplus();
    let bound = u.tanh();
    let bend = u.scale(-2.0).sigmoid().scale(2.0) * bound.offset(1.0);
    one(w.grad * (bound + &x * x.sigmoid() * bend))
}

fn hard(x: f64) -> f64 {
    if x.is_nan() { x } else { (x + 3.0).clamp(0.0, 6.0) }
}

/// As PyTorch: 0 at -3, 1 at 3.
fn hard_swish(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let x = &w.inputs[0];
    let bent = w.grad * x.scale(1.0 / 3.0).offset(0.5);
    let right = x.ge(3.0).where_(w.grad, &bent);
    one(x.le(-3.0).where_(&zero(w), &right))
}

/// Of what the threshold does not make 0.
fn shrunk(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    vec![Some(w.inputs[0].abs().gt(&w.inputs[1]).where_(w.grad, &zero(w))), None]
}
