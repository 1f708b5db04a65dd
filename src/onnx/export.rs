//! From a recorded network to an ONNX file.
//!
//! The network is recorded twice, for two batch sizes: what differs between the two is a length that depends on the batch, and is
//! written so that any batch fits.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use prost::Message;

use super::emit::{self, Site};
use super::proto::{
    DimProto, EntryProto, GraphProto, ModelProto, NodeProto, OpsetProto, ShapeProto, TensorProto, TensorTypeProto,
    TypeProto, ValueProto,
};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::file;
use crate::graph::{Node, Source};
use crate::tensor::Tensor;

/// What is said of an exported model beside its graph.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// Names of the inputs; `input`, or `input_0` and so on, where there are too few.
    pub inputs: Vec<String>,
    /// Names of the outputs, in the same way.
    pub outputs: Vec<String>,
    /// Entries for whoever uses the model: classes, preprocessing, a version.
    pub metadata: BTreeMap<String, String>,
    /// True to keep the batch size of the example: else axis 0 of all inputs is free.
    pub fixed_batch: bool,
}

/// The version of ONNX's ops that is written.
const OPSET: i64 = 21;
/// The version of the file's format that belongs to it.
const FORMAT: i64 = 10;
/// Largest file that protobuf can hold.
const LARGEST: usize = (1 << 31) - 1;

/// Writes what `net` makes of inputs like `examples` to an ONNX file, in version 21 of its ops: parameters under their names in the store,
/// other values as constants. `net` should record the network for evaluation.
///
/// Axis 0 of all inputs is the batch, and free. Numbers of u32 leave as int64.
///
/// # Errors
/// The error that an output carries; [`Error::Unsupported`] with all ops that cannot be written, or that fix the batch;
/// [`Error::Onnx`] for a model of more than 2 GB; [`Error::Io`].
pub fn export(
    net: impl Fn(&[Tensor]) -> Vec<Tensor>,
    examples: &[Tensor],
    path: impl AsRef<Path>,
    options: &ExportOptions,
) -> Result<()> {
    let bytes = export_bytes(net, examples, options)?;
    file::replace(path.as_ref(), file::Durability::Power, |to| {
        to.write_all(&bytes).map_err(|error| Error::io(path.as_ref(), "write", error))
    })
}

/// [`export`] to bytes.
///
/// # Errors
/// As [`export`].
pub fn export_bytes(
    net: impl Fn(&[Tensor]) -> Vec<Tensor>,
    examples: &[Tensor],
    options: &ExportOptions,
) -> Result<Vec<u8>> {
    let first = recorded(&net, examples.to_vec())?;
    let longer = |x: &Tensor| match x.shape() {
        Ok([]) | Err(_) => x.clone(),
        Ok(_) => Tensor::concat(&[x, &x.slice(0, 0, 1)], 0),
    };
    let second = match options.fixed_batch {
        true => None,
        false => Some(recorded(&net, examples.iter().map(longer).collect())?),
    };
    let batch = examples.iter().find_map(|x| x.shape().ok()?.first().copied());
    let file = Writer::new(options, batch.unwrap_or(1), !options.fixed_batch).file(&first, second.as_ref())?;
    let length = file.encoded_len();
    if length > LARGEST {
        let what = format!("the model takes {length} bytes, a file of this format has {LARGEST} at most");
        return Err(Error::Onnx { what, next: "save the parameters as safetensors, or make the model smaller" });
    }
    Ok(file.encode_to_vec())
}

/// A recording: its inputs, its outputs, and all nodes between them, each behind its inputs.
struct Recording {
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    nodes: Vec<Arc<Node>>,
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
            node.with_inputs(|inputs| stack.extend(inputs.iter().rev().map(|input| (input.clone(), false))));
        }
    }
    Ok(Recording { inputs, outputs, nodes })
}

/// ONNX's element type of a dtype; what is counted in u32 is counted in int64 there.
pub fn type_of(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::F16 => 10,
        DType::I32 => 6,
        DType::U32 => 7,
        DType::Bool => 9,
    }
}

/// The file while it is written.
pub struct Writer<'a> {
    options: &'a ExportOptions,
    graph: GraphProto,
    /// Names of values, by the nodes that give them and the numbers of their results.
    names: HashMap<(u64, usize), String>,
    fresh: usize,
    /// The batch size of the example, and whether it is free.
    batch: usize,
    is_free: bool,
    /// The name of the vector of the batch size, once somebody needed it.
    batch_name: Option<String>,
    missing: Vec<String>,
}

impl<'a> Writer<'a> {
    fn new(options: &'a ExportOptions, batch: usize, is_free: bool) -> Writer<'a> {
        Writer {
            options,
            graph: GraphProto { name: "kiln".into(), ..GraphProto::default() },
            names: HashMap::new(),
            fresh: 0,
            batch,
            is_free,
            batch_name: None,
            missing: vec![],
        }
    }

    fn file(mut self, first: &Recording, second: Option<&Recording>) -> Result<ModelProto> {
        if let Some(second) = second {
            let same = first.nodes.len() == second.nodes.len()
                && first.nodes.iter().zip(&second.nodes).all(|(a, b)| a.name() == b.name());
            if !same {
                let what = "the network records other ops for another batch size".into();
                return Err(Error::Unsupported { what });
            }
        }
        for (number, input) in first.inputs.iter().enumerate() {
            let name = named(&self.options.inputs, "input", number, first.inputs.len());
            self.names.insert((input.node().id, 0), name.clone());
            let port = self.port(name, input, second.and_then(|second| second.inputs.get(number)));
            self.graph.input.push(port);
        }
        for (number, node) in first.nodes.iter().enumerate() {
            let other = second.and_then(|second| second.nodes.get(number)).unwrap_or(node);
            self.node(node, other)?;
        }
        for (number, output) in first.outputs.iter().enumerate() {
            let name = named(&self.options.outputs, "output", number, first.outputs.len());
            let from = self.name_of(output.node());
            self.push("Identity", &[&from], &[&name], vec![]);
            let port = self.port(name, output, second.and_then(|second| second.outputs.get(number)));
            self.graph.output.push(port);
        }
        if !self.missing.is_empty() {
            self.missing.sort();
            self.missing.dedup();
            return Err(Error::Unsupported {
                what: format!("an ONNX file of it cannot hold {}", self.missing.join("; ")),
            });
        }
        self.drop_unused();
        let metadata =
            self.options.metadata.iter().map(|(key, value)| EntryProto { key: key.clone(), value: value.clone() });
        Ok(ModelProto {
            ir_version: FORMAT,
            producer_name: "kiln".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            opset_import: vec![OpsetProto { domain: String::new(), version: OPSET }],
            metadata_props: metadata.collect(),
            graph: Some(self.graph),
            ..ModelProto::default()
        })
    }

    /// Leaves out what no output needs: numbers that became attributes, statistics that a layer had put together.
    fn drop_unused(&mut self) {
        let mut used: HashSet<String> = self.graph.output.iter().map(|port| port.name.clone()).collect();
        let mut kept = vec![];
        for node in std::mem::take(&mut self.graph.node).into_iter().rev() {
            if node.output.iter().any(|output| used.contains(output)) {
                used.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.graph.node = kept;
        self.graph.initializer.retain(|tensor| used.contains(&tensor.name));
    }

    fn port(&self, name: String, tensor: &Tensor, other: Option<&Tensor>) -> ValueProto {
        let dims = tensor.dims();
        let others = other.unwrap_or(tensor).dims();
        let dim = |(&length, &other): (&usize, &usize)| match length == other {
            true => DimProto { dim_value: length as i64, dim_param: String::new() },
            false if length == self.batch => DimProto { dim_value: 0, dim_param: "batch".into() },
            false => DimProto::default(),
        };
        let shape = ShapeProto { dim: dims.iter().zip(others.iter()).map(dim).collect() };
        let tensor_type = TensorTypeProto { elem_type: type_of(tensor.meta().dtype), shape: Some(shape) };
        ValueProto { name, kind: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }) }
    }

    fn node(&mut self, node: &Arc<Node>, other: &Arc<Node>) -> Result<()> {
        match &node.source {
            Source::Parameter(leaf) => {
                let name = leaf.name.to_string();
                let values = Tensor::from_node(node.clone()).to_array()?.data;
                self.store(&name, node.meta.dtype, &node.meta.shape, &values);
                self.names.insert((node.id, 0), name);
            }
            Source::Upload { .. } | Source::Stored => {
                let values = Tensor::from_node(node.clone()).to_array()?.data;
                if node.meta.shape != other.meta.shape {
                    self.missing.push("a constant whose size depends on the batch".into());
                } else if !same(&values, &Tensor::from_node(other.clone()).to_array()?.data) {
                    self.missing.push("a constant whose values depend on the batch".into());
                }
                let name = self.constant(node.meta.dtype, &node.meta.shape, &values);
                self.names.insert((node.id, 0), name);
            }
            Source::Operand { value, words } => {
                if matches!(&other.source, Source::Operand { words: again, .. } if again != words) {
                    self.missing.push("a number that depends on the batch".into());
                }
                let name = self.constant(node.meta.dtype, &[], value.get(..1).unwrap_or_default());
                self.names.insert((node.id, 0), name);
            }
            Source::Result { number, .. } => {
                let Some(op) = node.with_inputs(|inputs| inputs.first().cloned()) else { return Ok(()) };
                match self.names.get(&(op.id, *number)).cloned() {
                    Some(name) => drop(self.names.insert((node.id, 0), name)),
                    None => self.missing.push(format!("result {number} of `{}`", node.name())),
                }
            }
            Source::Op(op) => {
                let inputs = node.with_inputs(<[_]>::to_vec);
                let names: Vec<String> = inputs.iter().map(|input| self.name_of(input)).collect();
                let site = Site { op: &**op, inputs: &inputs, node, other, names: &names };
                match emit::op(self, &site) {
                    Ok(name) => drop(self.names.insert((node.id, 0), name)),
                    Err(what) => {
                        self.missing.push(what);
                        let name = self.name();
                        self.names.insert((node.id, 0), name);
                    }
                }
            }
            Source::Error(error) => return Err(error.clone()),
        }
        Ok(())
    }

    fn name_of(&mut self, node: &Arc<Node>) -> String {
        match self.names.get(&(node.id, 0)) {
            Some(name) => name.clone(),
            None => self.name(),
        }
    }

    /// The name of a node's value, if it has one.
    pub fn known(&self, node: &Arc<Node>) -> Option<String> {
        self.names.get(&(node.id, 0)).cloned()
    }

    /// A name that nobody has.
    pub fn name(&mut self) -> String {
        self.fresh += 1;
        format!("_{}", self.fresh)
    }

    fn store(&mut self, name: &str, dtype: DType, shape: &[usize], values: &[f64]) {
        if self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            return;
        }
        let raw = |value: &f64| -> Vec<u8> {
            match dtype {
                DType::F32 => (*value as f32).to_le_bytes().to_vec(),
                DType::F16 => half::f16::from_f64(*value).to_le_bytes().to_vec(),
                DType::I32 => (*value as i32).to_le_bytes().to_vec(),
                DType::U32 => (*value as i64).to_le_bytes().to_vec(),
                DType::Bool => vec![u8::from(*value != 0.0)],
            }
        };
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            data_type: type_of(dtype),
            dims: shape.iter().map(|&length| length as i64).collect(),
            raw_data: values.iter().flat_map(raw).collect(),
            ..TensorProto::default()
        });
    }

    /// A stored constant.
    pub fn constant(&mut self, dtype: DType, shape: &[usize], values: &[f64]) -> String {
        let name = self.name();
        self.store(&name, dtype, shape, values);
        name
    }

    /// A vector of whole numbers.
    pub fn wholes(&mut self, values: &[i64]) -> String {
        let values: Vec<f64> = values.iter().map(|&value| value as f64).collect();
        self.constant(DType::U32, &[values.len()], &values)
    }

    /// Adds a node.
    pub fn push(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<super::proto::AttributeProto>) {
        let name = format!("{op}_{}", self.graph.node.len());
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            input: list(inputs),
            output: list(outputs),
            attribute: attributes,
            domain: String::new(),
        });
    }

    /// Adds a node of one output, and gives its name.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: Vec<super::proto::AttributeProto>) -> String {
        let output = self.name();
        self.push(op, inputs, &[&output], attributes);
        output
    }

    /// A vector with the batch size of the first input.
    fn batch(&mut self) -> String {
        if let Some(name) = &self.batch_name {
            return name.clone();
        }
        let input = self.graph.input.first().map(|port| port.name.clone()).unwrap_or_default();
        let name = self.add("Shape", &[&input], vec![emit::int("start", 0), emit::int("end", 1)]);
        self.batch_name = Some(name.clone());
        name
    }

    /// A vector of lengths that are those of `shape` for the example, and of `other` for one more.
    ///
    /// # Errors
    /// What is wrong where a length is no multiple of the batch.
    pub fn shape(&mut self, shape: &[usize], other: &[usize]) -> Result<String, String> {
        if shape == other || !self.is_free {
            return Ok(self.wholes(&shape.iter().map(|&length| length as i64).collect::<Vec<_>>()));
        }
        let mut parts = vec![];
        for (&length, &longer) in shape.iter().zip(other) {
            if length == longer {
                parts.push(self.wholes(&[length as i64]));
                continue;
            }
            let times = length / self.batch.max(1);
            if times * self.batch != length || times * (self.batch + 1) != longer {
                return Err(format!("a shape {shape:?} whose lengths are no multiples of the batch"));
            }
            let batch = self.batch();
            let factor = self.wholes(&[times as i64]);
            parts.push(if times == 1 { batch } else { self.add("Mul", &[&batch, &factor], vec![]) });
        }
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.add("Concat", &parts, vec![emit::int("axis", 0)]))
    }
}

/// The name that is said, or one that is made.
fn named(said: &[String], kind: &str, number: usize, count: usize) -> String {
    match said.get(number) {
        Some(name) => name.clone(),
        None if count == 1 => kind.into(),
        None => format!("{kind}_{number}"),
    }
}

/// Equal to the bit: what is not a number is equal to itself here.
fn same(a: &[f64], b: &[f64]) -> bool {
    a.iter().map(|value| value.to_bits()).eq(b.iter().map(|value| value.to_bits()))
}
