//! One op of a recording as nodes of ONNX.

mod attention;
pub mod normalise;
mod pointwise;
pub mod recurrent;
mod views;
mod windows;

use std::any::Any;
use std::sync::Arc;

use super::proto::AttributeProto;
use super::proto::attribute;
use super::writer::{Writer, type_of};
use crate::dtype::DType;
use crate::graph::{Node, Source};
use crate::op::Op;
use crate::ops::argmax::Argmax;
use crate::ops::cast::Cast;
use crate::ops::concat::Concat;
use crate::ops::constant::{Constant, Fill};
use crate::ops::conv2d::Conv2dDataGrad;
use crate::ops::cumsum::Cumsum;
use crate::ops::gather::Gather;
use crate::ops::log_sum_exp::LogSumExp;
use crate::ops::matmul::Matmul;
use crate::ops::max_pool::MaxPool;
use crate::ops::pad::Pad;
use crate::ops::pointwise::Pointwise;
use crate::ops::reduce::{Kind, Reduce};
use crate::ops::resample::Resample;
use crate::ops::softmax::Softmax;
use crate::ops::view::{Detach, Expand, Permute, Reshape, Slice};

/// An op where it stands: as it was recorded for the example, and for other lengths.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    /// The op.
    pub op: &'a dyn Op,
    /// What it takes.
    pub inputs: &'a [Arc<Node>],
    /// What it gives.
    pub node: &'a Arc<Node>,
    /// The same node of the recordings for other lengths.
    pub twins: &'a [&'a Arc<Node>],
    /// The names of what it takes.
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

/// The op of a node, if it is a `T`.
fn op_of<T: Op>(node: &Node) -> Option<&T> {
    match &node.source {
        Source::Op(op) => (&**op as &dyn Any).downcast_ref(),
        _ => None,
    }
}

/// Input `number` of a node.
fn input_of(node: &Node, number: usize) -> Option<Arc<Node>> {
    node.with_inputs(|inputs| inputs.get(number).cloned())
}

/// The number that a node is, if it is one that the program gave.
fn number_of(node: &Node) -> Option<f64> {
    match &node.source {
        Source::Operand { value, .. } => value.first().copied(),
        _ => match op_of::<Constant>(node)?.fill {
            Fill::Value(value) => Some(value),
            Fill::Index => None,
        },
    }
}

/// What a node is a view of, but for axes of length 1 and stretched ones.
fn beneath_views(node: &Arc<Node>) -> Arc<Node> {
    let mut node = node.clone();
    while op_of::<Reshape>(&node).is_some() || op_of::<Expand>(&node).is_some() {
        match input_of(&node, 0) {
            Some(input) => node = input,
            None => break,
        }
    }
    node
}

/// For each axis of a node its lengths in the recordings.
fn lengths_of<'a>(all: impl Iterator<Item = &'a Arc<Node>> + Clone) -> Vec<Vec<i64>> {
    let rank = all.clone().next().map_or(0, |node| node.meta.shape.rank());
    let along =
        |axis: usize| all.clone().map(|node| node.meta.shape.get(axis).map_or(0, |&length| length as i64)).collect();
    (0..rank).map(along).collect()
}

impl<'a> Site<'a> {
    fn is<T: Op>(&self) -> Option<&'a T> {
        (self.op as &dyn Any).downcast_ref()
    }

    fn name(&self, number: usize) -> &'a str {
        self.names.get(number).map_or("", String::as_str)
    }

    /// The node of each recording.
    fn all(&self) -> impl Iterator<Item = &'a Arc<Node>> + Clone {
        std::iter::once(self.node).chain(self.twins.iter().copied())
    }

    /// Input `number` of each recording.
    fn all_inputs(&self, number: usize) -> Vec<Arc<Node>> {
        self.all().filter_map(|node| input_of(node, number)).collect()
    }

    /// For each axis of the result its lengths in the recordings.
    fn lengths(&self) -> Vec<Vec<i64>> {
        lengths_of(self.all())
    }

    /// The same of input `number`.
    fn input_lengths(&self, number: usize) -> Vec<Vec<i64>> {
        lengths_of(self.all_inputs(number).iter())
    }

    /// The number that input `number` is, if it is one that the program gave.
    fn number(&self, number: usize) -> Option<f64> {
        number_of(self.inputs.get(number)?)
    }

    /// The same in each recording.
    fn numbers(&self, number: usize) -> Option<Vec<f64>> {
        self.all_inputs(number).iter().map(|input| number_of(input)).collect()
    }

    fn shape(&self, number: usize) -> Vec<usize> {
        self.inputs.get(number).map(|input| input.meta.shape.to_vec()).unwrap_or_default()
    }

    fn dtype(&self, number: usize) -> DType {
        self.inputs.get(number).map_or(DType::F32, |input| input.meta.dtype)
    }

    /// True if a free length is among the op's own sizes, where the ops below expect it.
    fn may_vary(&self) -> bool {
        self.is::<Reshape>().is_some()
            || self.is::<Expand>().is_some()
            || self.is::<Slice>().is_some()
            || self.is::<Constant>().is_some()
            || self.is::<MaxPool>().is_some()
            || self.is::<Resample>().is_some()
            || self.is::<Conv2dDataGrad>().is_some()
    }
}

/// Writes an op; gives the name of its result.
///
/// # Errors
/// What cannot be written.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let words = |node: &Arc<Node>| {
        let mut words = vec![];
        if let Source::Op(op) = &node.source {
            op.attributes(&mut words);
        }
        words
    };
    if !site.may_vary() && site.twins.iter().any(|twin| words(twin) != words(site.node)) {
        return Err(format!("`{}`, whose sizes depend on {}", site.op.name(), writer.lengths()));
    }
    if let Some(&Slice { axis, .. }) = site.is() {
        return views::slice(writer, site, axis);
    }
    // Whole numbers that follow a length are computed from it.
    let mut names = site.names.to_vec();
    for (number, input) in site.inputs.iter().enumerate() {
        let Some(why) = writer.lacks(input) else { continue };
        let refused = Err(format!("`{}` of {why}", site.op.name()));
        let Some(values) = site.numbers(number).filter(|all| all.iter().all(|x| x.fract() == 0.0)) else {
            return refused;
        };
        let values: Vec<i64> = values.iter().map(|&value| value as i64).collect();
        let Ok(length) = writer.length(&values) else { return refused };
        let name = scalar(writer, &length, site.dtype(number));
        if let Some(place) = names.get_mut(number) {
            *place = name;
        }
    }
    any(writer, &Site { names: &names, ..*site })
}

/// A length as a number of a dtype.
fn scalar(writer: &mut Writer<'_>, length: &super::free::Length, dtype: DType) -> String {
    let (vector, first) = (writer.length_name(length), writer.wholes(&[0]));
    let number = writer.add("Squeeze", &[&vector, &first], vec![]);
    match dtype {
        DType::U32 => number,
        _ => writer.add("Cast", &[&number], vec![int("to", i64::from(type_of(dtype)))]),
    }
}

fn any(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let x = site.name(0);
    if let Some(row) = site.is::<Pointwise>() {
        return match normalise::moved(writer, site, row.0.name) {
            Some(name) => Ok(name),
            None => pointwise::pointwise(writer, site, row.0.name),
        };
    }
    if site.is::<Reshape>().is_some() {
        return views::reshape(writer, site);
    }
    if site.is::<Expand>().is_some() {
        return views::expand(writer, site);
    }
    if let Some(Permute { axes }) = site.is() {
        return Ok(writer.add("Transpose", &[x], vec![ints("perm", axes.iter().copied())]));
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
    if let Some(Constant { dtype, fill, .. }) = site.is() {
        return views::constant(writer, site, *dtype, *fill);
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
        return Ok(reduced(writer, op, x, axes));
    }
    if let Some(&LogSumExp { axis }) = site.is() {
        return Ok(reduced(writer, "ReduceLogSumExp", x, &[axis]));
    }
    if let Some(Argmax { axes, least, last }) = site.is() {
        let &[axis] = &axes[..] else { return Err("the place of an extreme over several axes".into()) };
        let attributes = vec![int("axis", axis as i64), int("select_last_index", i64::from(*last))];
        return Ok(writer.add(if *least { "ArgMin" } else { "ArgMax" }, &[x], attributes));
    }
    if let Some(&Cumsum { axis, reverse }) = site.is() {
        let axis = writer.constant(DType::U32, &[], &[axis as f64]);
        return Ok(writer.add("CumSum", &[x, &axis], vec![int("reverse", i64::from(reverse))]));
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
    if site.is::<Matmul>().is_some() {
        return Ok(writer.add("MatMul", &[x, site.name(1)], vec![]));
    }
    let wholes = [windows::op, normalise::op, recurrent::op, attention::op];
    if let Some(done) = wholes.iter().find_map(|op| op(writer, site)) {
        return done;
    }
    own(writer, site)
}

/// A reduction over axes, which stay with length 1. Before version 18 most have their axes as an attribute.
fn reduced(writer: &mut Writer<'_>, op: &str, x: &str, axes: &[usize]) -> String {
    if writer.opset < 18 && op != "ReduceSum" {
        return writer.add(op, &[x], vec![ints("axes", axes.iter().copied()), int("keepdims", 1)]);
    }
    let axes = writer.wholes(&axes.iter().map(|&axis| axis as i64).collect::<Vec<_>>());
    writer.add(op, &[x, &axes], vec![int("keepdims", 1)])
}

/// An op that ONNX has not: a node of the domain that the user named for it.
fn own(writer: &mut Writer<'_>, site: &Site<'_>) -> Result<String, String> {
    let op = site.op.name();
    let Some(domain) = writer.domain(op) else { return Err(format!("`{op}`")) };
    let mut words = vec![];
    site.op.attributes(&mut words);
    let words = AttributeProto {
        name: "attributes".into(),
        kind: attribute::INTS,
        ints: words.iter().map(|&word| word as i64).collect(),
        ..AttributeProto::default()
    };
    let names: Vec<&str> = site.names.iter().map(String::as_str).collect();
    let results: Vec<String> = site.node.result_metas().iter().map(|_| writer.name()).collect();
    let outputs: Vec<&str> = results.iter().map(String::as_str).collect();
    writer.push_of(&domain, op, &names, &outputs, vec![words]);
    for (number, name) in results.iter().enumerate().skip(1) {
        writer.name_result(site.node, number, name.clone());
    }
    Ok(results.into_iter().next().unwrap_or_default())
}
