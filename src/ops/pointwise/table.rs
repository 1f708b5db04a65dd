//! The table of pointwise ops.

use crate::op::Backward;
use crate::shader::Algebra;
use crate::tensor::Tensor;

/// Which dtypes a row takes and gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Floats to the same float.
    Float,
    /// Floats or integers to the same.
    Number,
    /// Floats or i32 to the same.
    Signed,
    /// Two of any one dtype to bool.
    Comparison,
    /// Bools to bool.
    Logical,
    /// A bool and two of any one dtype to that dtype.
    Where,
}

/// Gradients of a row's inputs, in ops, before summing over stretched axes.
pub type Derivative = fn(&Backward<'_>) -> Vec<Option<Tensor>>;

/// A pointwise op.
pub struct Row {
    /// Name in errors and dumps.
    pub name: &'static str,
    /// Dtypes.
    pub kind: Kind,
    /// What a compiler may make of it where operands share a part.
    pub algebra: Algebra,
    /// Number of inputs.
    pub arity: usize,
    /// WGSL expression of `a`, `b`, `c` for floats.
    pub wgsl: &'static str,
    /// The same for integers and bools, where it differs.
    pub integer: Option<&'static str>,
    /// The same for u32, where that differs from i32.
    pub unsigned: Option<&'static str>,
    /// The f64 definition.
    pub function: fn(f64, f64, f64) -> f64,
    /// The definition for integers where f64 has not the bits for it: right modulo 2^32.
    pub whole: Option<fn(i64, i64) -> i64>,
    /// The derivative; `None` where it is zero or undefined everywhere.
    pub derivative: Option<Derivative>,
}

const SQRT_HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
const FRAC_2_SQRT_PI: f64 = std::f64::consts::FRAC_2_SQRT_PI;
/// 1 / sqrt(2 pi).
const DENSITY: f64 = 0.398_942_280_401_432_7;
/// sqrt(2 / pi), of the tanh form of GELU.
const TANH_SCALE: f64 = 0.797_884_560_802_865_4;
const TANH_CUBE: f64 = 0.044_715;

fn zero(backward: &Backward<'_>) -> Tensor {
    backward.grad.scalar(0.0).cast(backward.grad.meta().dtype)
}

fn one(gradient: Tensor) -> Vec<Option<Tensor>> {
    vec![Some(gradient)]
}

macro_rules! rows {
    ($($name:ident $text:literal $kind:ident $algebra:ident $arity:literal $wgsl:literal $(int $integer:literal)? $(uint $unsigned:literal)? $(whole $whole:expr)?, $function:expr, $derivative:expr;)+) => {
        $(
            #[doc = concat!("`", $text, "`")]
            pub static $name: Row = Row {
                name: $text,
                kind: Kind::$kind,
                algebra: Algebra::$algebra,
                arity: $arity,
                wgsl: $wgsl,
                integer: { let _other: Option<&'static str> = None; $(let _other = Some($integer);)? _other },
                unsigned: { let _other: Option<&'static str> = None; $(let _other = Some($unsigned);)? _other },
                function: $function,
                whole: { let _other: Option<fn(i64, i64) -> i64> = None; $(let _other = Some($whole as fn(i64, i64) -> i64);)? _other },
                derivative: $derivative,
            };
        )+
        /// All rows.
        pub static ROWS: &[&Row] = &[$(&$name),+];
    };
}

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
    EXP "exp" Float Opaque 1 "exp_full(a)", |a, _, _| a.exp(), Some(|w| one(w.grad * w.output));
    LOG "log" Float Opaque 1 "log_full(a)", |a, _, _| a.ln(), Some(|w| one(w.grad / &w.inputs[0]));
    SQRT "sqrt" Float Root 1 "sqrt(a)", |a, _, _| a.sqrt(), Some(|w| one((w.grad / w.output).scale(0.5)));
    // What the shader compiler writes for GL takes u32 for i32 here.
    ABS "abs" Number Plain 1 "abs(a)" uint "a", |a, _, _| a.abs(), Some(|w| one(w.grad * w.inputs[0].sign()));
    SIGN "sign" Signed Plain 1 "select(select(a, F(-1.0), a < F(0.0)), F(1.0), a > F(0.0))" int "sign(a)",
        |a, _, _| if a > 0.0 { 1.0 } else if a < 0.0 { -1.0 } else { a }, None;
    NEG "neg" Signed Plain 1 "-a", |a, _, _| -a, Some(|w| one(-w.grad));
    RECIP "recip" Float Quotient 1 "F(1.0) / a", |a, _, _| 1.0 / a, Some(|w| one(-(w.grad * w.output * w.output)));
    EXPM1 "expm1" Float Opaque 1 "expm1(a)", |a, _, _| a.exp_m1(), Some(|w| one(w.grad * w.inputs[0].exp()));
    LOG1P "log1p" Float Opaque 1 "log1p(a)", |a, _, _| a.ln_1p(), Some(|w| one(w.grad / w.inputs[0].offset(1.0)));
    RELU "relu" Signed Plain 1 "rectified(a)" int "max(a, I(0))", |a, _, _| if a < 0.0 { 0.0 } else { a },
        Some(|w| one(w.output.le(&zero(w)).where_(&zero(w), w.grad)));
    LEAKY_RELU "leaky_relu" Float Difference 2 "select(a * b, a, a > F(0.0))", |a, b, _| if a > 0.0 { a } else { a * b },
        Some(|w| vec![Some(w.inputs[0].gt(&zero(w)).where_(w.grad, &(w.grad * &w.inputs[1]))), None]);
    ELU "elu" Float Mixed 2 "select(b * expm1(a), a, a > F(0.0))", |a, b, _| if a > 0.0 { a } else { b * a.exp_m1() },
        Some(elu);
    NORMAL_CDF "normal_cdf" Float Opaque 1 "normal_cdf(a)", |a, _, _| normal_cdf(a), Some(|w| one(w.grad * density(&within(&w.inputs[0]))));
    GELU "gelu" Float Opaque 1 "a * normal_cdf(a)", |a, _, _| a * normal_cdf(a), Some(gelu);
    // (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits where tanh is near -1.
    GELU_TANH "gelu_tanh" Float Opaque 1 "a / (F(1.0) + exp_full(F(-1.5957691216) * (a + F(0.044715) * a * a * a)))",
        |a, _, _| a / (1.0 + (-2.0 * TANH_SCALE * (a + TANH_CUBE * a * a * a)).exp()), Some(gelu_tanh);
    SILU "silu" Float Opaque 1 "a / (F(1.0) + exp_full(-a))", |a, _, _| a / (1.0 + (-a).exp()), Some(silu);
    SIGMOID "sigmoid" Float Opaque 1 "sigmoid(a)", |a, _, _| 1.0 / (1.0 + (-a).exp()),
        // From the result, as PyTorch: near 1 it is as exact as the result.
        Some(|w| one(w.grad * (w.output * (-w.output).offset(1.0))));
    TANH "tanh" Float Opaque 1 "tanh_full(a)", |a, _, _| a.tanh(),
        Some(|w| one(w.grad * ((-w.output).offset(1.0) * w.output.offset(1.0))));
    SOFTPLUS "softplus" Float Opaque 1 "with_nan(max(a, F(0.0)) + log1p(exp_full(-abs(a))), a, a)",
        |a, _, _| if a.is_nan() { a } else { a.max(0.0) + (-a.abs()).exp().ln_1p() },
        Some(|w| one(w.grad * w.inputs[0].sigmoid()));
    ERF "erf" Float Opaque 1 "erf(a)", |a, _, _| libm_erf(a),
        // 2 / sqrt(pi) exp(-x^2), which is 0 beyond the bounds, where its slope would be 0 times infinity.
        Some(|w| one(w.grad * (-w.inputs[0].clamp(-20.0, 20.0).square()).exp().scale(FRAC_2_SQRT_PI)));
    // (1 - b) a + log(1 + e^-a) for b in [0, 1], without the difference of two large numbers.
    LOGISTIC_LOSS "logistic_loss" Float Mixed 2
        "with_nan(select(-a * b, a * (F(1.0) - b), a > F(0.0)) + log1p(exp_full(-abs(a))), a, b)",
        |a, b, _| if a > 0.0 { a * (1.0 - b) } else { -a * b } + (-a.abs()).exp().ln_1p(),
        Some(logistic_loss);
    CLAMP "clamp" Number Plain 3 "with_nan(min(max(a, b), c), a, a)" int "min(max(a, b), c)",
        |a, b, c| if a.is_nan() { a } else { a.max(b).min(c) }, Some(clamp);
    EQ "eq" Comparison Difference 2 "a == b", |a, b, _| f64::from(u8::from(a == b)), None;
    NE "ne" Comparison Difference 2 "!(a == b)", |a, b, _| f64::from(u8::from(a != b)), None;
    LT "lt" Comparison Difference 2 "a < b" int "U(a) < U(b)", |a, b, _| f64::from(u8::from(a < b)), None;
    LE "le" Comparison Difference 2 "a <= b" int "U(a) <= U(b)", |a, b, _| f64::from(u8::from(a <= b)), None;
    GT "gt" Comparison Difference 2 "a > b" int "U(a) > U(b)", |a, b, _| f64::from(u8::from(a > b)), None;
    GE "ge" Comparison Difference 2 "a >= b" int "U(a) >= U(b)", |a, b, _| f64::from(u8::from(a >= b)), None;
    WITHIN "within" Comparison Difference 3 "(a >= b) & (a <= c)", |a, b, c| f64::from(u8::from(b <= a && a <= c)), None;
    NOT "not" Logical Plain 1 "!a", |a, _, _| f64::from(u8::from(a == 0.0)), None;
    AND "and" Logical Plain 2 "a & b", |a, b, _| f64::from(u8::from(a != 0.0 && b != 0.0)), None;
    OR "or" Logical Plain 2 "a | b", |a, b, _| f64::from(u8::from(a != 0.0 || b != 0.0)), None;
    WHERE "where" Where Choice 3 "select(c, b, a)", |a, b, c| if a != 0.0 { b } else { c },
        Some(|w| vec![
            None,
            w.needs[1].then(|| w.inputs[0].where_(w.grad, &zero(w))),
            w.needs[2].then(|| w.inputs[0].where_(&zero(w), w.grad)),
        ]);
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

/// The exponential of what is above 0 is never formed: it overflows, and 0 times infinity is NaN in the second derivative.
fn elu(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, alpha) = (&w.inputs[0], &w.inputs[1]);
    let positive = a.gt(&zero(w));
    let power = positive.where_(&zero(w), a).exp();
    vec![Some(positive.where_(w.grad, &(w.grad * (power * alpha)))), None]
}

/// sigmoid(a) - b as (1 - b) sigmoid(a) - b sigmoid(-a): exact for a target of 0 and of 1.
fn logistic_loss(w: &Backward<'_>) -> Vec<Option<Tensor>> {
    let (a, b) = (&w.inputs[0], &w.inputs[1]);
    let logit = w.needs[0].then(|| w.grad * ((-b).offset(1.0) * a.sigmoid() - b * (-a).sigmoid()));
    vec![logit, w.needs[1].then(|| -(w.grad * a))]
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

/// exp(-x^2 / 2) / sqrt(2 pi)
fn density(x: &Tensor) -> Tensor {
    x.square().scale(-0.5).exp().scale(DENSITY)
}

/// x within bounds beyond which these functions and their slopes do not change by a bit: infinity times 0 is NaN.
fn within(x: &Tensor) -> Tensor {
    x.clamp(-40.0, 40.0)
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

/// The normal distribution's share below x, without cancellation on either side.
fn normal_cdf(x: f64) -> f64 {
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
