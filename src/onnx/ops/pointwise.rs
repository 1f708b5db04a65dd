//! Ops of one element each: arithmetic, comparisons, activations.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, settled};
use crate::onnx::elem::Elem;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// A function of one tensor of floats.
fn unary(call: &Call<'_>, of: impl Fn(&Tensor) -> Tensor) -> Outcome {
    let elem = call.elem(0)?;
    one(settled(of(&call.tensor(0)?), elem), elem)
}

/// A function of floats that half precision computes in f32 and rounds once.
fn wide(call: &Call<'_>, of: impl Fn(&Tensor) -> Tensor) -> Outcome {
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    one(of(&x.cast(DType::F32)).cast(elem.dtype()), elem)
}

/// Two inputs of one element type.
fn pair(call: &Call<'_>) -> Result<(Tensor, Tensor, Elem), Trouble> {
    let (elem, other) = (call.elem(0)?, call.elem(1)?);
    if elem != other {
        return wrong(format!("its inputs are {elem} and {other}, where one type is wanted"));
    }
    Ok((call.tensor(0)?, call.tensor(1)?, elem))
}

fn arithmetic(call: &Call<'_>, of: impl Fn(&Tensor, &Tensor) -> Tensor) -> Outcome {
    let (a, b, elem) = pair(call)?;
    one(settled(of(&a, &b), elem), elem)
}

fn comparison(call: &Call<'_>, of: impl Fn(&Tensor, &Tensor) -> Tensor) -> Outcome {
    let (a, b, _) = pair(call)?;
    one(of(&a, &b), Elem::Bool)
}

/// All inputs made one, pair by pair.
fn together(call: &Call<'_>, of: impl Fn(&Tensor, &Tensor) -> Tensor) -> Outcome {
    let elem = call.elem(0)?;
    let mut all = call.tensor(0)?;
    for i in 1..call.inputs.len() {
        all = settled(of(&all, &call.tensor(i)?), elem);
    }
    one(all, elem)
}

/// The whole part of a quotient, cut toward zero; of floats the quotient.
fn div(call: &Call<'_>) -> Outcome {
    arithmetic(call, |a, b| a.over(b))
}

/// A power whose exponent may be of another type; the result is of the base's.
fn pow(call: &Call<'_>) -> Outcome {
    let (base, elem) = (call.tensor(0)?, call.elem(0)?);
    let exponent = call.tensor(1)?;
    if elem.is_float() {
        return one(base.cast(DType::F32).pow(&exponent.cast(DType::F32)).cast(elem.dtype()), elem);
    }
    let power = base.cast(DType::F32).pow(&exponent.cast(DType::F32));
    one(settled(power.round().cast(elem.dtype()), elem), elem)
}

fn modulo(call: &Call<'_>) -> Outcome {
    match call.flag("fmod", false)? {
        true => arithmetic(call, |a, b| a.fmod(b)),
        false => arithmetic(call, |a, b| a.remainder(b)),
    }
}

fn neg(call: &Call<'_>) -> Outcome {
    unary(call, Tensor::negative)
}

fn abs(call: &Call<'_>) -> Outcome {
    match call.elem(0)?.dtype() {
        DType::U32 => one(call.tensor(0)?, call.elem(0)?),
        _ => unary(call, Tensor::abs),
    }
}

fn sign(call: &Call<'_>) -> Outcome {
    match call.elem(0)?.dtype() {
        DType::U32 => unary(call, |x| x.ne(0).cast(DType::U32)),
        _ => unary(call, Tensor::sign),
    }
}

/// A float attribute, then an activation with it.
fn with(call: &Call<'_>, name: &str, default: f64, of: impl Fn(&Tensor, f64) -> Tensor) -> Outcome {
    let number = call.float(name, default)?;
    wide(call, |x| of(x, number))
}

fn elu(call: &Call<'_>) -> Outcome {
    with(call, "alpha", 1.0, |x, alpha| x.elu(alpha))
}

fn celu(call: &Call<'_>) -> Outcome {
    with(call, "alpha", 1.0, |x, alpha| x.celu(alpha))
}

fn leaky_relu(call: &Call<'_>) -> Outcome {
    with(call, "alpha", 0.01, |x, alpha| x.leaky_relu(alpha))
}

fn thresholded_relu(call: &Call<'_>) -> Outcome {
    with(call, "alpha", 1.0, |x, alpha| x.threshold(alpha, 0.0))
}

fn swish(call: &Call<'_>) -> Outcome {
    with(call, "alpha", 1.0, |x, alpha| x * (x * alpha).sigmoid())
}

fn selu(call: &Call<'_>) -> Outcome {
    let alpha = call.float("alpha", 1.673_263_192_176_818_8)?;
    let gamma = call.float("gamma", 1.050_701_022_148_132_3)?;
    wide(call, |x| x.elu(alpha) * gamma)
}

fn hard_sigmoid(call: &Call<'_>) -> Outcome {
    let (alpha, beta) = (call.float("alpha", 0.2)?, call.float("beta", 0.5)?);
    wide(call, |x| (x * alpha + beta).clamp(0.0, 1.0))
}

fn shrink(call: &Call<'_>) -> Outcome {
    let (bias, bound) = (call.float("bias", 0.0)?, call.float("lambd", 0.5)?);
    wide(call, |x| {
        let below = x.lt(-bound).where_(&(x + bias), &(x * 0.0));
        x.gt(bound).where_(&(x - bias), &below)
    })
}

fn gelu(call: &Call<'_>) -> Outcome {
    match call.text("approximate", "none")?.as_str() {
        "none" => wide(call, Tensor::gelu),
        "tanh" => wide(call, Tensor::gelu_tanh),
        other => wrong(format!("approximate is `{other}`")),
    }
}

fn softplus(call: &Call<'_>) -> Outcome {
    wide(call, Tensor::softplus)
}

/// A slope that stretches to the input, or stands for its channels as it is.
fn prelu(call: &Call<'_>) -> Outcome {
    let (x, slope, elem) = pair(call)?;
    let zero = &x * 0.0;
    one(x.gt(&zero).where_(&x, &(&x * &slope)), elem)
}

/// Half of the last axis gates the other half.
fn swiglu(call: &Call<'_>) -> Outcome {
    let alpha = call.float("alpha", 1.0)?;
    let (a, b, elem) = pair(call)?;
    let (wide, other) = (a.cast(DType::F32), b.cast(DType::F32));
    one((&wide * (&wide * alpha).sigmoid() * other).cast(elem.dtype()), elem)
}

/// Bounds are inputs, and before version 11 attributes.
fn clip(call: &Call<'_>) -> Outcome {
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    if call.node.version < 11 {
        let (low, high) = (call.float("min", f64::NEG_INFINITY)?, call.float("max", f64::INFINITY)?);
        return one(x.clamp(low, high), elem);
    }
    // The upper bound has the last word.
    let x = if call.has(1) { x.maximum(&call.tensor(1)?) } else { x };
    one(if call.has(2) { x.minimum(&call.tensor(2)?) } else { x }, elem)
}

fn not(call: &Call<'_>) -> Outcome {
    unary(call, Tensor::logical_not)
}

fn bitwise_not(call: &Call<'_>) -> Outcome {
    unary(call, Tensor::bitwise_not)
}

/// Shifts by as many places as the type has or more leave nothing.
fn bit_shift(call: &Call<'_>) -> Outcome {
    let (_, _, elem) = pair(call)?;
    match call.text("direction", "")?.as_str() {
        "LEFT" => arithmetic(call, |a, b| a.shift_left(b)),
        "RIGHT" => arithmetic(call, |a, b| a.shift_right(b)),
        other => wrong(format!("direction `{other}` of {elem}")),
    }
}

fn is_inf(call: &Call<'_>) -> Outcome {
    let (x, elem) = (call.tensor(0)?, call.elem(0)?);
    if !elem.is_float() {
        return unsupported(format!("it is not defined for {elem}"));
    }
    let (up, down) = (call.flag("detect_positive", true)?, call.flag("detect_negative", true)?);
    let infinite = x.is_inf();
    let side = |is_up: bool| {
        let x = x.cast(DType::F32);
        infinite.logical_and(&if is_up { x.gt(0.0) } else { x.lt(0.0) })
    };
    let found = match (up, down) {
        (true, true) => infinite.clone(),
        (true, false) => side(true),
        (false, true) => side(false),
        (false, false) => infinite.logical_and(&infinite.logical_not()),
    };
    one(found, Elem::Bool)
}

fn is_nan(call: &Call<'_>) -> Outcome {
    one(call.tensor(0)?.is_nan(), Elem::Bool)
}

fn select(call: &Call<'_>) -> Outcome {
    let (elem, other) = (call.elem(1)?, call.elem(2)?);
    if elem != other {
        return wrong(format!("its choices are {elem} and {other}"));
    }
    one(call.tensor(0)?.where_(&call.tensor(1)?, &call.tensor(2)?), elem)
}

fn mean(call: &Call<'_>) -> Outcome {
    let (elem, count) = (call.elem(0)?, call.inputs.len());
    let mut sum = call.tensor(0)?;
    for i in 1..count {
        sum += call.tensor(i)?;
    }
    one(sum / (count as f64), elem)
}

/// Rows of functions of one float.
macro_rules! functions {
    ($($name:literal = $method:ident),+ $(,)?) => { &[$(Row::new($name, |call| wide(call, Tensor::$method))),+] };
}

/// Functions of one float.
pub const FUNCTIONS: &[Row] = functions![
    "Exp" = exp,
    "Log" = log,
    "Sqrt" = sqrt,
    "Reciprocal" = recip,
    "Erf" = erf,
    "Sin" = sin,
    "Cos" = cos,
    "Tan" = tan,
    "Asin" = asin,
    "Acos" = acos,
    "Atan" = atan,
    "Sinh" = sinh,
    "Cosh" = cosh,
    "Tanh" = tanh,
    "Asinh" = asinh,
    "Acosh" = acosh,
    "Atanh" = atanh,
    "Floor" = floor,
    "Ceil" = ceil,
    "Round" = round,
    "Sigmoid" = sigmoid,
    "Softsign" = softsign,
    "Mish" = mish,
    "HardSwish" = hardswish,
];

/// The others.
pub const ROWS: &[Row] = &[
    Row::new("Abs", abs),
    Row::new("Neg", neg),
    Row::new("Sign", sign),
    Row::new("Relu", |call| unary(call, Tensor::relu)),
    Row::new("Elu", elu).with(&["alpha"]),
    Row::new("Celu", celu).with(&["alpha"]),
    Row::new("LeakyRelu", leaky_relu).with(&["alpha"]),
    Row::new("ThresholdedRelu", thresholded_relu).with(&["alpha"]),
    Row::new("Swish", swish).with(&["alpha"]),
    Row::new("SwiGLU", swiglu).with(&["alpha"]),
    Row::new("Selu", selu).with(&["alpha", "gamma"]),
    Row::new("HardSigmoid", hard_sigmoid).with(&["alpha", "beta"]),
    Row::new("Shrink", shrink).with(&["bias", "lambd"]),
    Row::new("Gelu", gelu).with(&["approximate"]),
    Row::new("Softplus", softplus),
    Row::new("PRelu", prelu),
    Row::new("Clip", clip).with(&["min", "max"]).knows(&[1, 2]),
    Row::new("Add", |call| arithmetic(call, |a, b| a.plus(b))),
    Row::new("Sub", |call| arithmetic(call, |a, b| a.minus(b))),
    Row::new("Mul", |call| arithmetic(call, |a, b| a.times(b))),
    Row::new("Div", div),
    Row::new("Pow", pow),
    Row::new("Mod", modulo).with(&["fmod"]),
    Row::new("Sum", |call| together(call, |a, b| a.plus(b))),
    Row::new("Mean", mean),
    Row::new("Max", |call| together(call, |a, b| a.maximum(b))),
    Row::new("Min", |call| together(call, |a, b| a.minimum(b))),
    Row::new("Equal", |call| comparison(call, |a, b| a.eq(b))),
    Row::new("Less", |call| comparison(call, |a, b| a.lt(b))),
    Row::new("LessOrEqual", |call| comparison(call, |a, b| a.le(b))),
    Row::new("Greater", |call| comparison(call, |a, b| a.gt(b))),
    Row::new("GreaterOrEqual", |call| comparison(call, |a, b| a.ge(b))),
    Row::new("And", |call| comparison(call, |a, b| a.logical_and(b))),
    Row::new("Or", |call| comparison(call, |a, b| a.logical_or(b))),
    Row::new("Xor", |call| comparison(call, |a, b| a.logical_xor(b))),
    Row::new("Not", not),
    Row::new("BitwiseAnd", |call| arithmetic(call, |a, b| a.bitwise_and(b))),
    Row::new("BitwiseOr", |call| arithmetic(call, |a, b| a.bitwise_or(b))),
    Row::new("BitwiseXor", |call| arithmetic(call, |a, b| a.bitwise_xor(b))),
    Row::new("BitwiseNot", bitwise_not),
    Row::new("BitShift", bit_shift).with(&["direction"]),
    Row::new("IsInf", is_inf).with(&["detect_positive", "detect_negative"]),
    Row::new("IsNaN", is_nan),
    Row::new("Where", select),
];
