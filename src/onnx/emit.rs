//! One op of a recording as nodes of ONNX.

use std::any::Any;
use std::sync::Arc;

use super::export::{Writer, type_of};
use super::proto::AttributeProto;
use super::proto::attribute;
use crate::dtype::DType;
use crate::graph::{Node, Source};
use crate::op::Op;
use crate::ops::avg_pool2d::AvgPool2d;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::cast::Cast;
use crate::ops::concat::Concat;
use crate::ops::constant::{Constant, Fill};
use crate::ops::conv2d::Conv2d;
use crate::ops::gather::Gather;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::matmul::Matmul;
use crate::ops::max_pool2d::MaxPool2d;
use crate::ops::pad::Pad;
use crate::ops::pointwise::Pointwise;
use crate::ops::reduce::{Kind, Reduce};
use crate::ops::softmax::Softmax;
use crate::ops::view::{Detach, Expand, Permute, Reshape, Slice};

/// An op where it stands: as it was recorded for the example, and for one element more in the batch.
pub struct Site<'a> {
    pub op: &'a dyn Op,
    pub inputs: &'a [Arc<Node>],
    pub node: &'a Arc<Node>,
    pub other: &'a Arc<Node>,
    pub names: &'a [String],
}

/// An attribute that is a whole number.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), kind: attribute::INT, i: value, ..AttributeProto::default() }
}

fn ints(name: &str, values: impl IntoIterator<Item = usize>) -> AttributeProto {
    let ints = values.into_iter().map(|value| value as i64).collect();
    AttributeProto { name: name.into(), kind: attribute::INTS, ints, ..AttributeProto::default() }
}

fn float(name: &str, value: f64) -> AttributeProto {
    AttributeProto { name: name.into(), kind: attribute::FLOAT, f: value as f32, ..AttributeProto::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        kind: attribute::STRING,
        s: value.as_bytes().to_vec(),
        ..AttributeProto::default()
    }
}

impl Site<'_> {
    fn is<T: Op>(&self) -> Option<&T> {
        (self.op as &dyn Any).downcast_ref()
    }

    fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }

    /// The number that input `number` is, if it is one that the program gave.
    fn number(&self, number: usize) -> Option<f64> {
        match &self.inputs.get(number)?.source {
            Source::Operand { value, .. } => value.first().copied(),
            Source::Op(op) => match (&**op as &dyn Any).downcast_ref::<Constant>()?.fill {
                Fill::Value(value) => Some(value),
                Fill::Index => None,
            },
            _ => None,
        }
    }

    fn shape(&self, number: usize) -> Vec<usize> {
        self.inputs.get(number).map(|input| input.meta.shape.to_vec()).unwrap_or_default()
    }

    fn dtype(&self, number: usize) -> DType {
        self.inputs.get(number).map_or(DType::F32, |input| input.meta.dtype)
    }
}

/// Writes an op; gives the name of its result.
///
/// # Errors
/// What cannot be written.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let x = site.name(0);
    if let Some(row) = site.is::<Pointwise>() {
        return pointwise(writer, site, row.0.name);
    }
    if let Some(Reshape { shape }) = site.is() {
        let to = writer.shape(shape, &site.other.meta.shape)?;
        return Ok(writer.add("Reshape", &[x, &to], vec![]));
    }
    if let Some(Expand { shape }) = site.is() {
        let to = writer.shape(shape, &site.other.meta.shape)?;
        return Ok(writer.add("Expand", &[x, &to], vec![]));
    }
    if let Some(Permute { axes }) = site.is() {
        return Ok(writer.add("Transpose", &[x], vec![ints("perm", axes.iter().copied())]));
    }
    if let Some(&Slice { axis, length }) = site.is() {
        let Some(start) = site.number(1) else { return Err("a slice from a computed place".into()) };
        let other = site.other.meta.shape.get(axis).copied();
        let whole = site.shape(0).get(axis).copied();
        let end = match (whole, other) {
            (Some(whole), _) if start as usize + length == whole => i64::MAX,
            (_, Some(other)) if other == length => start as i64 + length as i64,
            _ => return Err("a slice of a part of the batch".into()),
        };
        let [start, end, axis] = [start as i64, end, axis as i64].map(|value| writer.wholes(&[value]));
        return Ok(writer.add("Slice", &[x, &start, &end, &axis], vec![]));
    }
    if site.is::<Detach>().is_some() {
        return Ok(writer.add("Identity", &[x], vec![]));
    }
    if let Some(Cast { to }) = site.is() {
        return Ok(writer.add("Cast", &[x], vec![int("to", i64::from(type_of(*to)))]));
    }
    if let Some(Concat { axis }) = site.is() {
        let names: Vec<&str> = site.names.iter().map(String::as_str).collect();
        return Ok(writer.add("Concat", &names, vec![int("axis", *axis as i64)]));
    }
    if let Some(Constant { shape, dtype, fill }) = site.is() {
        return constant(writer, site, shape, *dtype, *fill);
    }
    if let Some(Softmax { axis, log }) = site.is() {
        return Ok(writer.add(if *log { "LogSoftmax" } else { "Softmax" }, &[x], vec![int("axis", *axis as i64)]));
    }
    if let Some(Reduce { kind, axes }) = site.is() {
        let op = match kind {
            Kind::Sum => "ReduceSum",
            Kind::Prod => "ReduceProd",
            Kind::Mean => "ReduceMean",
            Kind::Max => "ReduceMax",
            Kind::Min => "ReduceMin",
        };
        let axes = writer.wholes(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
        return Ok(writer.add(op, &[x, &axes], vec![int("keepdims", 1)]));
    }
    if let Some(Gather { axis, vector, .. }) = site.is() {
        let op = if *vector { "Gather" } else { "GatherElements" };
        return Ok(writer.add(op, &[x, site.name(1)], vec![int("axis", *axis as i64)]));
    }
    if let Some(Pad { pairs, value }) = site.is() {
        let sides = pairs.iter().map(|pair| pair.0 as i64).chain(pairs.iter().map(|pair| pair.1 as i64));
        let pads = writer.wholes(&sides.collect::<Vec<_>>());
        let value = writer.constant(site.dtype(0), &[], &[*value]);
        return Ok(writer.add("Pad", &[x, &pads, &value], vec![]));
    }
    products(writer, site).unwrap_or_else(|| Err(format!("`{}`", site.op.name())))
}

/// Products, windows and normalisations.
fn products(writer: &mut Writer<'_>, site: &Site<'_>) -> Option<Result<String, String>> {
    let x = site.name(0);
    if site.is::<Matmul>().is_some() {
        return Some(Ok(writer.add("MatMul", &[x, site.name(1)], vec![])));
    }
    if let Some(Conv2d { options, .. }) = site.is() {
        let [height, width] = options.padding;
        let attributes = vec![
            ints("strides", options.stride),
            ints("pads", [height, width, height, width]),
            ints("dilations", options.dilation),
            int("group", options.groups as i64),
        ];
        return Some(Ok(writer.add("Conv", &[x, site.name(1)], attributes)));
    }
    let pool = |window: &crate::ops::pool::Window| {
        let [height, width] = window.padding;
        vec![
            ints("kernel_shape", window.kernel),
            ints("strides", window.stride),
            ints("pads", [height, width, height, width]),
        ]
    };
    if let Some(MaxPool2d(window)) = site.is() {
        return Some(Ok(writer.add("MaxPool", &[x], pool(window))));
    }
    if let Some(AvgPool2d { window, count_include_pad }) = site.is() {
        let mut attributes = pool(window);
        attributes.push(int("count_include_pad", i64::from(*count_include_pad)));
        return Some(Ok(writer.add("AveragePool", &[x], attributes)));
    }
    if let Some(&LayerNorm { epsilon, centred, weight, bias }) = site.is() {
        let length = site.shape(0).last().copied().unwrap_or(1);
        if !centred {
            return Some(Ok(root_mean_square(writer, site, epsilon, weight, bias)));
        }
        let scale = match weight {
            true => site.name(1).to_string(),
            false => writer.constant(DType::F32, &[length], &vec![1.0; length]),
        };
        let mut inputs = vec![x, &scale];
        if bias {
            inputs.push(site.name(1 + usize::from(weight)));
        }
        return Some(Ok(writer.add("LayerNormalization", &inputs, vec![int("axis", -1), float("epsilon", epsilon)])));
    }
    if let Some(&BatchNorm { epsilon, of_batch, weight, bias }) = site.is() {
        if of_batch {
            return Some(
                Err("a normalisation by the batch's own statistics: record the network for evaluation".into()),
            );
        }
        let channels = site.shape(0).get(1).copied().unwrap_or(1);
        let side = |writer: &mut Writer<'_>, number: Option<usize>, value: f64| match number {
            Some(number) => site.name(number).to_string(),
            None => writer.constant(DType::F32, &[channels], &vec![value; channels]),
        };
        let scale = side(writer, weight.then_some(2), 1.0);
        let shift = side(writer, bias.then_some(2 + usize::from(weight)), 0.0);
        let [mean, variance] = statistics(writer, site).unwrap_or_else(|| {
            [0, 1].map(|row| {
                let row = writer.constant(DType::U32, &[], &[f64::from(row)]);
                writer.add("Gather", &[site.name(1), &row], vec![int("axis", 0)])
            })
        });
        let inputs = [x, &scale, &shift, &mean, &variance];
        return Some(Ok(writer.add("BatchNormalization", &inputs, vec![float("epsilon", epsilon)])));
    }
    None
}

/// Mean and variance as they were before a layer put them into one tensor.
fn statistics(writer: &Writer<'_>, site: &Site<'_>) -> Option<[String; 2]> {
    fn inputs_of<T: Op>(node: &Arc<Node>) -> Option<Vec<Arc<Node>>> {
        let Source::Op(op) = &node.source else { return None };
        (&**op as &dyn Any).downcast_ref::<T>()?;
        Some(node.with_inputs(<[_]>::to_vec))
    }
    let given = site.inputs.get(1)?;
    let joint = match inputs_of::<Detach>(given) {
        Some(inputs) => inputs.into_iter().next()?,
        None => given.clone(),
    };
    let rows: Vec<String> = inputs_of::<Concat>(&joint)?
        .iter()
        .map(|row| writer.known(inputs_of::<Reshape>(row)?.first()?))
        .collect::<Option<_>>()?;
    rows.try_into().ok()
}

fn root_mean_square(writer: &mut Writer<'_>, site: &Site<'_>, epsilon: f64, weight: bool, bias: bool) -> String {
    let x = site.name(0);
    let square = writer.add("Mul", &[x, x], vec![]);
    let last = writer.wholes(&[-1]);
    let mean = writer.add("ReduceMean", &[&square, &last], vec![int("keepdims", 1)]);
    let epsilon = writer.constant(DType::F32, &[], &[epsilon]);
    let sum = writer.add("Add", &[&mean, &epsilon], vec![]);
    let root = writer.add("Sqrt", &[&sum], vec![]);
    let mut y = writer.add("Div", &[x, &root], vec![]);
    if weight {
        y = writer.add("Mul", &[&y, site.name(1)], vec![]);
    }
    if bias {
        y = writer.add("Add", &[&y, site.name(1 + usize::from(weight))], vec![]);
    }
    y
}

fn constant(
    writer: &mut Writer<'_>,
    site: &Site<'_>,
    shape: &[usize],
    dtype: DType,
    fill: Fill,
) -> Result<String, String> {
    match fill {
        Fill::Value(value) => {
            let number = writer.constant(dtype, &[], &[value]);
            if shape.is_empty() {
                return Ok(number);
            }
            let to = writer.shape(shape, &site.other.meta.shape)?;
            Ok(writer.add("Expand", &[&number, &to], vec![]))
        }
        Fill::Index if site.node.meta.shape != site.other.meta.shape => Err("numbers counted along the batch".into()),
        Fill::Index => {
            let length = shape.first().copied().unwrap_or(0);
            Ok(writer.constant(dtype, &[length], &(0..length).map(|i| i as f64).collect::<Vec<_>>()))
        }
    }
}

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
    ("is_nan", "IsNaN"),
    ("is_inf", "IsInf"),
];

fn pointwise(writer: &mut Writer<'_>, site: &Site<'_>, name: &'static str) -> Result<String, String> {
    let names: Vec<&str> = site.names.iter().map(String::as_str).collect();
    let (x, y) = (site.name(0), site.name(1));
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
        "ne" => {
            let same = writer.add("Equal", &[x, y], vec![]);
            writer.add("Not", &[&same], vec![])
        }
        _ => return Err(format!("`{name}`")),
    })
}
