//! From a recorded network to an ONNX file.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use prost::Message;

use super::beside;
use super::free::{self, Free, FreeAxis};
use super::proto::ModelProto;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::file;
use crate::graph::{Node, Source};
use crate::ops::attention::{self, Recorded};
use crate::ops::constant::Constant;
use crate::tensor::Tensor;

/// What is said of an exported model beside its graph.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Names of the inputs; `input`, or `input_0` and so on, where there are too few.
    pub inputs: Vec<String>,
    /// Names of the outputs, in the same way.
    pub outputs: Vec<String>,
    /// Entries for whoever uses the model: classes, preprocessing.
    pub metadata: BTreeMap<String, String>,
    /// The model's own version.
    pub version: i64,
    /// True to keep the batch size of the example: else axis 0 of all inputs is free.
    pub fixed_batch: bool,
    /// Further axes that are free: the length of texts, the size of images.
    pub free: Vec<FreeAxis>,
    /// The version of ONNX's ops, 13 to 23; `None` is 21.
    pub opset: Option<i64>,
    /// Tensors from so many bytes on go to a file beside, which is called as the model with `.data` behind. `None`: only where the model
    /// passes the 2 GB that a file of this format holds.
    pub beside: Option<usize>,
    /// Ops of your own: the name of each, and the domain that it leaves in, as a node with its attributes' words as `attributes`. Others
    /// are refused.
    pub domains: BTreeMap<String, String>,
}

/// Versions of ONNX's ops that can be written.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=23;
/// The version that is written unless another is asked for.
const OPSET: i64 = 21;
/// The version that has attention as an op.
const ATTENTION: i64 = 23;
/// Largest file that protobuf can hold.
const LARGEST: usize = (1 << 31) - 1;

/// Writes what `net` makes of inputs like `examples` to an ONNX file: parameters under their names in the store, other values as
/// constants. `net` should record the network for evaluation. It is called several times, for several lengths: also for free axes that
/// are more than twice as long as the example's.
///
/// Axis 0 of all inputs is the batch, and free, and so is what [`ExportOptions::free`] names. Recurrences, normalisations and GELU leave as
/// ONNX's own ops where the version has them, attention from version 23 on; else they are composed. Numbers of u32 leave as int64.
///
/// # Errors
/// The error that an output carries; [`Error::Unsupported`] with all ops that cannot be written, that the version has not, or that fix a
/// free length; [`Error::Onnx`] for axes or a version that are none, a name that two values would have, or a network that refuses longer
/// free axes; [`Error::Io`].
pub fn export(
    net: impl Fn(&[Tensor]) -> Vec<Tensor>,
    examples: &[Tensor],
    path: impl AsRef<Path>,
    options: &ExportOptions,
) -> Result<()> {
    let path = path.as_ref();
    let mut model = written(net, examples, options)?;
    let numbers = beside::parted(&mut model, path, options.beside, LARGEST)?;
    if !numbers.is_empty() {
        file::replace(&beside::path(path), file::Durability::Power, |to| {
            beside::write(&numbers, to).map_err(|error| Error::io(beside::path(path), "write", error))
        })?;
    }
    let bytes = model.encode_to_vec();
    file::replace(path, file::Durability::Power, |to| {
        to.write_all(&bytes).map_err(|error| Error::io(path, "write", error))
    })
}

/// [`export`] to bytes; all numbers are in them.
///
/// # Errors
/// As [`export`], and [`Error::Onnx`] for a model of more than 2 GB.
pub fn export_bytes(
    net: impl Fn(&[Tensor]) -> Vec<Tensor>,
    examples: &[Tensor],
    options: &ExportOptions,
) -> Result<Vec<u8>> {
    let model = written(net, examples, options)?;
    beside::fits(&model, LARGEST, "export it to a file, with its numbers in another one beside")?;
    Ok(model.encode_to_vec())
}

fn written(net: impl Fn(&[Tensor]) -> Vec<Tensor>, examples: &[Tensor], options: &ExportOptions) -> Result<ModelProto> {
    let opset = options.opset.unwrap_or(OPSET);
    if !OPSETS.contains(&opset) {
        let what = format!("version {opset} of ONNX's ops ({} to {} are known)", OPSETS.start(), OPSETS.end());
        return Err(Error::Onnx { what, next: "choose one of these" });
    }
    if let Some(error) = examples.iter().find_map(Tensor::error) {
        return Err(error.clone());
    }
    let free = free::of(examples, !options.fixed_batch, &options.free)?;
    let recordings = free.first().map_or(1, |free: &Free| free.lengths.len());
    let of = |number: usize| {
        let record = || recorded(&net, free::inputs(examples, &free, number));
        // What stands whole in the recording can leave whole.
        let recording =
            attention::recorded(if opset >= ATTENTION { Recorded::Whole } else { Recorded::Composed }, record);
        recording.map_err(|error| if number == 0 { error } else { free::refused(&free, number, &error) })
    };
    let all = (0..recordings).map(of).collect::<Result<Vec<_>>>()?;
    let Some((first, others)) = all.split_first() else {
        return Err(Error::Onnx { what: "nothing was recorded".into(), next: "pass a network" });
    };
    for other in others {
        let same = first.nodes.len() == other.nodes.len()
            && first.nodes.iter().zip(&other.nodes).all(|(a, b)| a.name() == b.name());
        if !same {
            let names: Vec<&str> = free.iter().map(|free| free.name.as_str()).collect();
            let what = format!("the network records other ops for other lengths of {}", names.join(", "));
            return Err(Error::Unsupported { what });
        }
    }
    Writer::new(options, opset, free).model(first, others)
}

/// A recording: its inputs, its outputs, and all nodes between them, each behind its inputs.
pub struct Recording {
    /// What was passed.
    pub inputs: Vec<Tensor>,
    /// What came out.
    pub outputs: Vec<Tensor>,
    /// What was recorded.
    pub nodes: Vec<Arc<Node>>,
}

fn recorded(net: &impl Fn(&[Tensor]) -> Vec<Tensor>, inputs: Vec<Tensor>) -> Result<Recording> {
    let outputs = net(&inputs);
    if let Some(error) = inputs.iter().chain(&outputs).find_map(Tensor::error) {
        return Err(error.clone());
    }
    // Each node behind its inputs, in an order that the structure alone decides: leaves of parameters are shared by recordings, so that
    // their numbers say nothing.
    let mut seen: HashSet<u64> = inputs.iter().map(|input| input.node().id).collect();
    let mut nodes = vec![];
    let mut stack: Vec<(Arc<Node>, bool)> = outputs.iter().rev().map(|output| (output.node().clone(), false)).collect();
    while let Some((node, is_done)) = stack.pop() {
        if is_done {
            nodes.push(node);
        } else if seen.insert(node.id) {
            stack.push((node.clone(), true));
            if !is_constant(&node) {
                node.with_inputs(|inputs| stack.extend(inputs.iter().rev().map(|input| (input.clone(), false))));
            }
        }
    }
    Ok(Recording { inputs, outputs, nodes })
}

/// True for a node whose value alone counts: it was computed before, and has let its inputs go.
pub fn is_constant(node: &Node) -> bool {
    match &node.source {
        Source::Upload { .. } | Source::Stored => true,
        Source::Op(op) => {
            let is_filled = (&**op as &dyn Any).is::<Constant>();
            node.has_value() && !is_filled && node.with_inputs(<[_]>::is_empty)
        }
        Source::Result { .. } => node.has_value() && node.with_inputs(<[_]>::is_empty),
        _ => false,
    }
}
