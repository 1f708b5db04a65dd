//! Pointwise ops.

use super::{Site, float, int, text};
use crate::dtype::DType;
use crate::onnx::writer::{Writer, type_of};

/// ONNX's element type of whole numbers from 0 on, of 32 bits.
const UINT32: i64 = 12;

/// Names that are one op of ONNX.
const SAME: &[(&str, &str)] = &[
    ("add", "Add"),
    ("sub", "Sub"),
    ("mul", "Mul"),
    ("div", "Div"),
    ("pow", "Pow"),
    ("minimum", "Min"),
    ("maximum", "Max"),
    ("lt", "Less"),
    ("le", "LessOrEqual"),
    ("gt", "Greater"),
    ("ge", "GreaterOrEqual"),
    ("eq", "Equal"),
    ("and", "And"),
    ("or", "Or"),
    ("xor", "Xor"),
    ("not", "Not"),
    ("where", "Where"),
    ("exp", "Exp"),
    ("log", "Log"),
    ("sqrt", "Sqrt"),
    ("abs", "Abs"),
    ("sign", "Sign"),
    ("neg", "Neg"),
    ("recip", "Reciprocal"),
    ("tanh", "Tanh"),
    ("erf", "Erf"),
    ("sin", "Sin"),
    ("cos", "Cos"),
    ("tan", "Tan"),
    ("asin", "Asin"),
    ("acos", "Acos"),
    ("atan", "Atan"),
    ("sinh", "Sinh"),
    ("cosh", "Cosh"),
    ("asinh", "Asinh"),
    ("acosh", "Acosh"),
    ("atanh", "Atanh"),
    ("floor", "Floor"),
    ("ceil", "Ceil"),
    ("round", "Round"),
    ("relu", "Relu"),
    ("sigmoid", "Sigmoid"),
    ("softplus", "Softplus"),
    ("softsign", "Softsign"),
    ("mish", "Mish"),
    ("hardswish", "HardSwish"),
    ("gelu", "Gelu"),
    ("bitwise_and", "BitwiseAnd"),
    ("bitwise_or", "BitwiseOr"),
    ("bitwise_xor", "BitwiseXor"),
    ("bitwise_not", "BitwiseNot"),
    ("is_nan", "IsNaN"),
    ("is_inf", "IsInf"),
];

/// Versions that brought an op later than the earliest that can be written.
const SINCE: &[(&str, i64)] = &[
    ("hardswish", 14),
    ("mish", 18),
    ("gelu", 20),
    ("gelu_tanh", 20),
    ("bitwise_and", 18),
    ("bitwise_or", 18),
    ("bitwise_xor", 18),
    ("bitwise_not", 18),
];

/// A pointwise op.
///
/// # Errors
/// What ONNX has not, or not in this version.
pub fn pointwise(writer: &mut Writer<'_>, site: &Site<'_>, name: &'static str) -> Result<String, String> {
    let names: Vec<&str> = site.names.iter().map(String::as_str).collect();
    let (x, y) = (site.name(0), site.name(1));
    if let Some((_, since)) = SINCE.iter().find(|(own, since)| *own == name && writer.opset < *since) {
        let made = composed(writer, x, name);
        return made.ok_or_else(|| format!("`{name}` (ONNX has it from version {since} of its ops on)"));
    }
    // Whole numbers from 0 on travel in 64 bits, of which 32 are theirs. All ones of 32 bits would be no constant that Kiln reads.
    if name == "bitwise_not" && site.dtype(0) == DType::U32 {
        let narrow = writer.add("Cast", &[x], vec![int("to", UINT32)]);
        let turned = writer.add("BitwiseNot", &[&narrow], vec![]);
        return Ok(writer.add("Cast", &[&turned], vec![int("to", i64::from(type_of(DType::U32)))]));
    }
    if let Some((_, op)) = SAME.iter().find(|(own, _)| *own == name) {
        return Ok(writer.add(op, &names, vec![]));
    }
    let number = |number: usize| site.number(number).ok_or_else(|| format!("`{name}` with a computed number"));
    Ok(match name {
        "silu" => {
            let gate = writer.add("Sigmoid", &[x], vec![]);
            writer.add("Mul", &[x, &gate], vec![])
        }
        "gelu_tanh" => writer.add("Gelu", &[x], vec![text("approximate", "tanh")]),
        "rsqrt" => {
            let root = writer.add("Sqrt", &[x], vec![]);
            writer.add("Reciprocal", &[&root], vec![])
        }
        "leaky_relu" => writer.add("LeakyRelu", &[x], vec![float("alpha", number(1)?)]),
        "elu" => writer.add("Elu", &[x], vec![float("alpha", number(1)?)]),
        "celu" => writer.add("Celu", &[x], vec![float("alpha", number(1)?)]),
        "selu" => writer.add("Selu", &[x], vec![]),
        "prelu" => writer.add("PRelu", &[x, y], vec![]),
        "hardsigmoid" => writer.add("HardSigmoid", &[x], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]),
        "clamp" => writer.add("Clip", &[x, y, site.name(2)], vec![]),
        "fmod" => writer.add("Mod", &[x, y], vec![int("fmod", 1)]),
        "hardshrink" => writer.add("Shrink", &[x], vec![float("lambd", number(1)?), float("bias", 0.0)]),
        "softshrink" => writer.add("Shrink", &[x], vec![float("lambd", number(1)?), float("bias", number(1)?)]),
        "within" => {
            let (low, high) = (writer.add("GreaterOrEqual", &[x, y], vec![]), site.name(2));
            let high = writer.add("LessOrEqual", &[x, high], vec![]);
            writer.add("And", &[&low, &high], vec![])
        }
        "is_finite" => {
            let [nan, infinite] = ["IsNaN", "IsInf"].map(|op| writer.add(op, &[x], vec![]));
            let either = writer.add("Or", &[&nan, &infinite], vec![]);
            writer.add("Not", &[&either], vec![])
        }
        "lerp" => {
            let way = writer.add("Sub", &[y, x], vec![]);
            let part = writer.add("Mul", &[&way, site.name(2)], vec![]);
            writer.add("Add", &[x, &part], vec![])
        }
        "exp2" | "log2" | "log10" | "log1p" | "expm1" => powers(writer, x, name),
        "ne" => {
            let same = writer.add("Equal", &[x, y], vec![]);
            writer.add("Not", &[&same], vec![])
        }
        _ => return Err(format!("`{name}`")),
    })
}

/// A number beside floats.
fn number(writer: &mut Writer<'_>, value: f64) -> String {
    writer.constant(DType::F32, &[], &[value])
}

/// Exponentials and logarithms to other bases, or of what is near 1.
fn powers(writer: &mut Writer<'_>, x: &str, name: &str) -> String {
    let one = number(writer, 1.0);
    match name {
        "log1p" => {
            let sum = writer.add("Add", &[x, &one], vec![]);
            writer.add("Log", &[&sum], vec![])
        }
        "expm1" => {
            let power = writer.add("Exp", &[x], vec![]);
            writer.add("Sub", &[&power, &one], vec![])
        }
        "exp2" => {
            let two = number(writer, 2.0);
            writer.add("Pow", &[&two, x], vec![])
        }
        _ => {
            let base = if name == "log2" { std::f64::consts::LN_2 } else { std::f64::consts::LN_10 };
            let (base, log) = (number(writer, base), writer.add("Log", &[x], vec![]));
            writer.add("Div", &[&log, &base], vec![])
        }
    }
}

/// What a version has not, of what it has.
fn composed(writer: &mut Writer<'_>, x: &str, name: &str) -> Option<String> {
    let gate = match name {
        "hardswish" => writer.add("HardSigmoid", &[x], vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)]),
        "mish" => {
            let soft = writer.add("Softplus", &[x], vec![]);
            writer.add("Tanh", &[&soft], vec![])
        }
        "gelu" => {
            let (root, half) = (number(writer, std::f64::consts::SQRT_2), number(writer, 0.5));
            let scaled = writer.add("Div", &[x, &root], vec![]);
            let erf = writer.add("Erf", &[&scaled], vec![]);
            let halved = writer.add("Mul", &[&erf, &half], vec![]);
            writer.add("Add", &[&halved, &half], vec![])
        }
        // x / (1 + exp(-2 sqrt(2 / pi) (x + 0.044715 x^3))).
        "gelu_tanh" => {
            let (cubic, scale) = (number(writer, 0.044715), number(writer, 1.595_769_121_605_730_7));
            let square = writer.add("Mul", &[x, x], vec![]);
            let cube = writer.add("Mul", &[&square, x], vec![]);
            let part = writer.add("Mul", &[&cube, &cubic], vec![]);
            let sum = writer.add("Add", &[x, &part], vec![]);
            let inner = writer.add("Mul", &[&sum, &scale], vec![]);
            writer.add("Sigmoid", &[&inner], vec![])
        }
        _ => return None,
    };
    Some(writer.add("Mul", &[x, &gate], vec![]))
}
