//! Pointwise ops, reductions and scans (`scripts/values/pointwise.py`).

use kiln::{DType, Tensor};
use serde_json::Value;

use crate::{integer, integers, number};

type Unary = fn(&Tensor) -> Tensor;
type Binary = fn(&Tensor, &Tensor) -> Tensor;

const UNARY: &[(&str, Unary)] = &[
    ("sin", Tensor::sin),
    ("cos", Tensor::cos),
    ("tan", Tensor::tan),
    ("asin", Tensor::asin),
    ("acos", Tensor::acos),
    ("atan", Tensor::atan),
    ("sinh", Tensor::sinh),
    ("cosh", Tensor::cosh),
    ("asinh", Tensor::asinh),
    ("acosh", Tensor::acosh),
    ("atanh", Tensor::atanh),
    ("erfc", Tensor::erfc),
    ("rsqrt", Tensor::rsqrt),
    ("exp2", Tensor::exp2),
    ("log2", Tensor::log2),
    ("log10", Tensor::log10),
    ("floor", Tensor::floor),
    ("ceil", Tensor::ceil),
    ("round", Tensor::round),
    ("trunc", Tensor::trunc),
    ("is_nan", Tensor::is_nan),
    ("is_inf", Tensor::is_inf),
    ("is_finite", Tensor::is_finite),
    ("relu6", Tensor::relu6),
    ("hardsigmoid", Tensor::hardsigmoid),
    ("hardswish", Tensor::hardswish),
    ("mish", Tensor::mish),
    ("selu", Tensor::selu),
    ("softsign", Tensor::softsign),
    ("tanhshrink", Tensor::tanhshrink),
    ("log_sigmoid", Tensor::log_sigmoid),
];

const BINARY: &[(&str, Binary)] = &[
    ("atan2", |a, b| a.atan2(b)),
    ("fmod", |a, b| a.fmod(b)),
    ("remainder", |a, b| a.remainder(b)),
    ("hypot", |a, b| a.hypot(b)),
    ("logaddexp", |a, b| a.logaddexp(b)),
    ("prelu", Tensor::prelu),
    ("bitwise_and", |a, b| a & b),
    ("bitwise_or", |a, b| a | b),
    ("bitwise_xor", |a, b| a ^ b),
    ("xor", |a, b| a.cast(DType::Bool).logical_xor(&b.cast(DType::Bool))),
];

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    if let Some((_, function)) = UNARY.iter().find(|(name, _)| *name == op) {
        return Some(vec![function(&x[0])]);
    }
    if let Some((_, function)) = BINARY.iter().find(|(name, _)| *name == op) {
        return Some(vec![function(&x[0], &x[1])]);
    }
    let number = |key: &str| number(attrs, key);
    let axis = || integer(attrs, "axis");
    let axes = || integers(attrs, "axes");
    let keep = attrs["keepdim"] == true;
    let x0 = &x[0];
    let result = match op {
        "hardtanh" => x0.hardtanh(number("low"), number("high")),
        "celu" => x0.celu(number("alpha")),
        "softshrink" => x0.softshrink(number("bound")),
        "hardshrink" => x0.hardshrink(number("bound")),
        "threshold" => x0.threshold(number("bound"), number("value")),
        "softplus_with" => x0.softplus_with(number("beta"), number("threshold")),
        "glu" => x0.glu(axis()),
        "lerp" => x0.lerp(&x[1], &x[2]),
        "prod" if keep => x0.prod_keep(&axes()),
        "prod" => x0.prod(&axes()),
        "log_sum_exp" if keep => x0.log_sum_exp_keep(&axes()),
        "log_sum_exp" => x0.log_sum_exp(&axes()),
        "norm" => {
            let p = match attrs["p"].as_str() {
                Some("inf") => f64::INFINITY,
                Some(_) => f64::NEG_INFINITY,
                None => number("p"),
            };
            x0.norm(p, &axes())
        }
        "std" => x0.std(&axes(), integer(attrs, "correction")),
        "any" => x0.any(&axes()),
        "all" => x0.all(&axes()),
        "argmin" => x0.argmin(axis()),
        "cumprod" => x0.cumprod(axis()),
        "logcumsumexp" => x0.logcumsumexp(axis()),
        "cummax" => x0.cummax(axis())[0].clone(),
        "cummax_index" => x0.cummax(axis())[1].clone(),
        "cummin" => x0.cummin(axis())[0].clone(),
        "cummin_index" => x0.cummin(axis())[1].clone(),
        _ => return None,
    };
    Some(vec![result])
}
