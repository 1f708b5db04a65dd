//! Sums, products, quotients, powers, extremes and signs, and what rounds to whole numbers.

use super::row::{Kind, Row, one, rows, zero};
use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;

/// The least normal f32.
const LEAST_NORMAL: f64 = 1.175_494_350_822_287_5e-38;

rows! {
    ADD "add" Number Sum 2 "a + b", |a, b, _| a + b,
        Some(|w| vec![Some(w.grad.clone()), Some(w.grad.clone())]);
    SUB "sub" Number Difference 2 "a - b", |a, b, _| a - b,
        Some(|w| vec![Some(w.grad.clone()), w.needs[1].then(|| -w.grad)]);
    MUL "mul" Number Product 2 "a * b" whole i64::wrapping_mul, |a, b, _| a * b,
        Some(|w| vec![w.needs[0].then(|| w.grad * &w.inputs[1]), w.needs[1].then(|| w.grad * &w.inputs[0])]);
    DIV "div" Number Quotient 2 "a / b" int "signed_quotient(a, b)" uint "unsigned_quotient(a, b)"
        whole |a, b| if b == 0 { a } else { a / b }, |a, b, _| a / b, Some(div);
    POW "pow" Float Opaque 2 "power(a, b)", |a, b, _| a.powf(b), Some(pow);
    MINIMUM "minimum" Number Plain 2 "with_nan(min(a, b), a, b)" int "min(a, b)", |a, b, _| extreme(a, b, a < b),
        Some(|w| ties(w, w.inputs[0].lt(&w.inputs[1])));
    MAXIMUM "maximum" Number Plain 2 "with_nan(max(a, b), a, b)" int "max(a, b)", |a, b, _| extreme(a, b, a > b),
        Some(|w| ties(w, w.inputs[0].gt(&w.inputs[1])));
    CLAMP "clamp" Number Plain 3 "with_nan(min(max(a, b), c), a, a)" int "min(max(a, b), c)",
        |a, b, c| if a.is_nan() { a } else { a.max(b).min(c) }, Some(clamp);
    // What the shader compiler writes for GL takes u32 for i32 here.
    ABS "abs" Number Plain 1 "abs(a)" uint "a", |a, _, _| a.abs(), Some(|w| one(w.grad * w.inputs[0].sign()));
    SIGN "sign" Signed Plain 1 "select(select(a, F(-1.0), a < F(0.0)), F(1.0), a > F(0.0))" int "sign(a)",
        |a, _, _| if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { a }, None;
    NEG "neg" Signed Plain 1 "-a", |a, _, _| -a, Some(|w| one(-w.grad));
    RECIP "recip" Float Quotient 1 "F(1.0) / a", |a, _, _| 1.0 / a, Some(|w| one(-(w.grad * w.output * w.output)));
    SQRT "sqrt" Float Root 1 "sqrt(a)", |a, _, _| a.sqrt(), Some(|w| one((w.grad / w.output).scale(0.5)));
    RSQRT "rsqrt" Float Quotient 1 "F(1.0) / sqrt(a)", |a, _, _| 1.0 / a.sqrt(),
        Some(|w| one((w.grad * (w.output * w.output * w.output)).scale(-0.5)));
    HYPOT "hypot" Float Opaque 2 "hypotenuse(a, b)", |a, b, _| a.hypot(b), Some(hypot);
    // From the nearer end, so that weights of 0 and 1 give the ends themselves.
    LERP "lerp" Float Difference 3 "select(b - (b - a) * (F(1.0) - c), a + c * (b - a), abs(c) < F(0.5))",
        |a, b, c| if c.abs() < 0.5 { a + c * (b - a) } else { b - (b - a) * (1.0 - c) }, Some(lerp);
    FLOOR "floor" Number Plain 1 "floor(a)" int "a", |a, _, _| a.floor(), None;
    CEIL "ceil" Number Plain 1 "ceil(a)" int "a", |a, _, _| a.ceil(), None;
    ROUND "round" Number Plain 1 "round(a)" int "a", |a, _, _| a.round_ties_even(), None;
    TRUNC "trunc" Number Plain 1 "trunc(a)" int "a", |a, _, _| a.trunc(), None;
    FMOD "fmod" Number Opaque 2 "remainder_of_size(a, b)" int "signed_remainder(a, b)" uint "unsigned_remainder(a, b)"
        whole |a, b| if b == 0 { 0 } else { a % b }, |a, b, _| a % b, Some(remainder);
    REMAINDER "remainder" Number Opaque 2 "floor_remainder(a, b)" int "signed_floor_remainder(a, b)"
        uint "unsigned_remainder(a, b)" whole |a, b| if b == 0 { 0 } else { (a % b + b) % b }, |a, b, _| floor_remainder(a, b),
        Some(remainder);
}

fn extreme(a: f64, b: f64, first: bool) -> f64 {
    if a.is_nan() || (first && !b.is_nan()) { a } else { b }
}

fn div(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let b = &w.inputs[1];
    // No square of b: it overflows at 1e20 and vanishes at 1e-30.
    let slope = w.grad / b;
    let divisor = w.needs[1].then(|| -(&slope * w.output));
    vec![w.needs[0].then_some(slope), divisor]
}

/// As PyTorch: 0 where the exponent is 0, and 0 for the exponent's gradient where the base is 0. What is not wanted is
/// kept out of the power and the logarithm, not masked behind them: an infinity there would come back as NaN from the
/// second derivative.
fn pow(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, b) = (&w.inputs[0], &w.inputs[1]);
    let ones = zero(w).offset(1.0);
    let base = w.needs[0].then(|| {
        let exponent = b.eq(&zero(w)).where_(&ones, b);
        w.grad * (b * a.pow(&exponent.offset(-1.0)))
    });
    let exponent = w.needs[1].then(|| {
        let flat = a.eq(&zero(w)).logical_and(&b.ge(&zero(w)));
        w.grad * (w.output * flat.where_(&ones, a).log())
    });
    vec![base, exponent]
}

/// The whole gradient to the chosen side, half to each on a tie.
fn ties(w: &Backward<'_>, first: Tensor) -> Vec<Option<Tensor>> {
    let tie = w.inputs[0].eq(&w.inputs[1]);
    let half = w.grad.scale(0.5);
    let side = |mine: &Tensor| tie.where_(&half, &mine.where_(w.grad, &zero(w)));
    vec![w.needs[0].then(|| side(&first)), w.needs[1].then(|| side(&first.logical_not()))]
}

/// As PyTorch since 2.15: none at the bounds themselves.
fn clamp(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let inside = w.inputs[0].gt(&w.inputs[1]).logical_and(&w.inputs[0].lt(&w.inputs[2]));
    vec![Some(inside.where_(w.grad, &zero(w))), None, None]
}

/// The sides over the hypotenuse; 0 where both are 0.
fn hypot(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let long = w.output.maximum(LEAST_NORMAL);
    w.inputs.iter().zip(w.needs).map(|(side, needed)| needed.then(|| w.grad * (side / &long))).collect()
}

fn lerp(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let [a, b, c] = [&w.inputs[0], &w.inputs[1], &w.inputs[2]];
    vec![
        w.needs[0].then(|| w.grad * (-c).offset(1.0)),
        w.needs[1].then(|| w.grad * c),
        w.needs[2].then(|| w.grad * (b - a)),
    ]
}

/// a - q b, whose whole quotient q has no slope.
fn remainder(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, b) = (&w.inputs[0], &w.inputs[1]);
    let divisor = w.needs[1].then(|| -(w.grad * ((a - w.output) / b).round()));
    vec![Some(w.grad.clone()), divisor]
}

/// The remainder with the sign of the divisor.
fn floor_remainder(a: f64, b: f64) -> f64 {
    let rest = a % b;
    if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
}
