//! An ONNX graph while it is written: names of values, stored tensors, lengths that are free.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::emit::normalise::{Groups, Normal};
use super::emit::recurrent::Ran;
use super::emit::{self, Site};
use super::export::{ExportOptions, Recording, is_constant};
use super::free::{Free, Length, length};
use super::names::{self, named};
use super::proto::{
    AttributeProto, DimProto, EntryProto, GraphProto, ModelProto, NodeProto, OpsetProto, ShapeProto, TensorProto,
    TensorTypeProto, TypeProto, ValueProto,
};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{Node, Source};
use crate::tensor::Tensor;

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

/// The version of the file's format that belongs to a version of the ops.
fn format_of(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        _ => 11,
    }
}

/// What a node's result is beside its name.
#[derive(Debug, Clone)]
pub enum Also {
    /// A normalisation of a value that was reshaped to rows for it: here with the axes that the value has.
    Normal(Normal),
    /// A normalisation over groups of channels, which a weight and a bias may follow.
    Groups(Groups),
    /// A recurrence, whose states are more than ONNX gives.
    Ran(Ran),
}

/// The graph while it is written.
pub struct Writer<'a> {
    options: &'a ExportOptions,
    /// The version of ONNX's ops.
    pub opset: i64,
    free: Vec<Free>,
    graph: GraphProto,
    /// Names of values, by the nodes that give them and the numbers of their results.
    names: HashMap<(u64, usize), String>,
    /// Why a node has no name.
    lacking: HashMap<u64, String>,
    also: HashMap<u64, Also>,
    fresh: usize,
    /// Names of inputs, outputs and parameters.
    taken: HashSet<String>,
    stored: HashSet<String>,
    /// Stored tensors that are parameters in another layout, and whose.
    held: Vec<(String, String)>,
    /// The names of vectors of the free lengths, once somebody needed them.
    vectors: BTreeMap<usize, String>,
    domains: BTreeMap<String, i64>,
    missing: Vec<String>,
}

impl<'a> Writer<'a> {
    /// Of nothing yet.
    pub fn new(options: &'a ExportOptions, opset: i64, free: Vec<Free>) -> Writer<'a> {
        Writer {
            options,
            opset,
            free,
            graph: GraphProto { name: "kiln".into(), ..GraphProto::default() },
            names: HashMap::new(),
            lacking: HashMap::new(),
            also: HashMap::new(),
            fresh: 0,
            taken: HashSet::new(),
            stored: HashSet::new(),
            held: vec![],
            vectors: BTreeMap::new(),
            domains: BTreeMap::new(),
            missing: vec![],
        }
    }

    /// The file of what was recorded, for the example and for other lengths.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with all that cannot be written, [`Error::Onnx`] for a name that two values would have.
    pub fn model(mut self, first: &Recording, others: &[Recording]) -> Result<ModelProto> {
        self.taken = names::given(self.options, first)?;
        for (number, input) in first.inputs.iter().enumerate() {
            let name = named(&self.options.inputs, "input", number, first.inputs.len());
            self.names.insert((input.node().id, 0), name.clone());
            let twins: Vec<&Tensor> = others.iter().filter_map(|other| other.inputs.get(number)).collect();
            let port = self.port(name, input, &twins);
            self.graph.input.push(port);
        }
        for (number, node) in first.nodes.iter().enumerate() {
            let twins: Vec<&Arc<Node>> = others.iter().filter_map(|other| other.nodes.get(number)).collect();
            self.node(node, &twins)?;
        }
        for (number, output) in first.outputs.iter().enumerate() {
            let name = named(&self.options.outputs, "output", number, first.outputs.len());
            if let Some(why) = self.lacks(output.node()) {
                self.missing.push(format!("{why}, as an output"));
                continue;
            }
            let from = self.known(output.node()).unwrap_or_default();
            self.push("Identity", &[&from], &[&name], vec![]);
            let twins: Vec<&Tensor> = others.iter().filter_map(|other| other.outputs.get(number)).collect();
            let port = self.port(name, output, &twins);
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
        self.domains.insert(String::new(), self.opset);
        let sets = self.domains.iter().map(|(domain, &version)| OpsetProto { domain: domain.clone(), version });
        Ok(ModelProto {
            ir_version: format_of(self.opset),
            producer_name: "kiln".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            model_version: self.options.version,
            opset_import: sets.collect(),
            metadata_props: metadata.collect(),
            graph: Some(self.graph),
            ..ModelProto::default()
        })
    }

    /// Leaves out what no output needs: numbers that became attributes, statistics that a layer had put together.
    fn drop_unused(&mut self) {
        let mut used: HashSet<String> = self.graph.output.iter().map(|port| port.name.clone()).collect();
        let mut kept = vec![];
        for mut node in std::mem::take(&mut self.graph.node).into_iter().rev() {
            if !node.output.iter().any(|output| used.contains(output)) {
                continue;
            }
            used.extend(node.input.iter().cloned());
            // Results that nobody wants have no name; the last ones are not there.
            for output in &mut node.output {
                if !used.contains(output) {
                    output.clear();
                }
            }
            while node.output.len() > 1 && node.output.last().is_some_and(String::is_empty) {
                node.output.pop();
            }
            kept.push(node);
        }
        kept.reverse();
        self.graph.node = kept;
        self.graph.initializer.retain(|tensor| used.contains(&tensor.name));
        for (name, parameter) in std::mem::take(&mut self.held) {
            if used.insert(parameter.clone()) {
                let inputs = self.graph.node.iter_mut().flat_map(|node| &mut node.input);
                let tensors = self.graph.initializer.iter_mut().map(|tensor| &mut tensor.name);
                inputs.chain(tensors).filter(|other| **other == name).for_each(|other| *other = parameter.clone());
            }
        }
    }

    fn port(&self, name: String, tensor: &Tensor, twins: &[&Tensor]) -> ValueProto {
        let dim = |axis: usize| {
            let of = |tensor: &Tensor| tensor.dims().get(axis).map_or(0, |&length| length as i64);
            let lengths: Vec<i64> = std::iter::once(tensor).chain(twins.iter().copied()).map(of).collect();
            let known = |name: &str| DimProto { dim_value: 0, dim_param: name.into() };
            match length(&self.free, &lengths) {
                Some(Length::Fixed(length)) => DimProto { dim_value: length, dim_param: String::new() },
                Some(Length::Product(1, of)) => match of[..] {
                    [one] => self.free.get(one).map(|free| known(&free.name)).unwrap_or_default(),
                    _ => DimProto::default(),
                },
                _ => DimProto::default(),
            }
        };
        let shape = ShapeProto { dim: (0..tensor.dims().rank()).map(dim).collect() };
        let tensor_type = TensorTypeProto { elem_type: type_of(tensor.meta().dtype), shape: Some(shape) };
        ValueProto { name, kind: Some(TypeProto { tensor_type: Some(tensor_type), ..TypeProto::default() }) }
    }

    fn node(&mut self, node: &Arc<Node>, twins: &[&Arc<Node>]) -> Result<()> {
        if is_constant(node) {
            let values = Tensor::from_node(node.clone()).to_array()?.data;
            for twin in twins.iter().filter(|twin| twin.id != node.id) {
                let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                let what = if twin.meta.shape != node.meta.shape {
                    "size depends"
                } else if bits(&values) != bits(&Tensor::from_node((*twin).clone()).to_array()?.data) {
                    "values depend"
                } else {
                    continue;
                };
                self.lacking.insert(node.id, format!("a constant whose {what} on {}", self.lengths()));
                return Ok(());
            }
            let name = self.constant(node.meta.dtype, &node.meta.shape, &values);
            self.names.insert((node.id, 0), name);
            return Ok(());
        }
        match &node.source {
            Source::Parameter(leaf) => {
                let name = leaf.name.to_string();
                let values = Tensor::from_node(node.clone()).to_array()?.data;
                self.store(&name, node.meta.dtype, &node.meta.shape, &values);
                self.names.insert((node.id, 0), name);
            }
            Source::Operand { value, .. } => {
                let of = |node: &Arc<Node>| match &node.source {
                    Source::Operand { value, .. } => value[0],
                    _ => f64::NAN,
                };
                match twins.iter().all(|twin| of(twin).to_bits() == value[0].to_bits()) {
                    true => {
                        let name = self.constant(node.meta.dtype, &[], &value[..1]);
                        self.names.insert((node.id, 0), name);
                    }
                    false => {
                        let what = format!("a number that depends on {}", self.lengths());
                        self.lacking.insert(node.id, what);
                    }
                }
            }
            Source::Result { number, .. } => {
                let Some(op) = node.with_inputs(|inputs| inputs.first().cloned()) else { return Ok(()) };
                if let Some(also) = self.also.get(&op.id).cloned() {
                    self.also.insert(node.id, also);
                }
                match self.names.get(&(op.id, *number)).cloned() {
                    Some(name) => drop(self.names.insert((node.id, 0), name)),
                    None => drop(self.lacking.insert(node.id, format!("result {number} of `{}`", node.name()))),
                }
            }
            Source::Op(op) => {
                let inputs = node.with_inputs(<[_]>::to_vec);
                let names: Vec<String> = inputs.iter().map(|input| self.known(input).unwrap_or_default()).collect();
                let site = Site { op: &**op, inputs: &inputs, node, twins, names: &names };
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
            Source::Upload { .. } | Source::Stored => {}
        }
        Ok(())
    }

    /// The free lengths, for messages.
    pub fn lengths(&self) -> String {
        let names: Vec<String> = self.free.iter().map(|free| format!("the {}", free.name)).collect();
        names.join(" or ")
    }

    /// The name of a node's value, if it has one.
    pub fn known(&self, node: &Arc<Node>) -> Option<String> {
        self.names.get(&(node.id, 0)).cloned()
    }

    /// Why a node has no name.
    pub fn lacks(&self, node: &Arc<Node>) -> Option<&str> {
        self.lacking.get(&node.id).map(String::as_str)
    }

    /// Says why a result of a node has no name.
    pub fn lack(&mut self, node: &Arc<Node>, why: String) {
        self.lacking.insert(node.id, why);
    }

    /// What a node's result is beside its name.
    pub fn also(&self, node: &Arc<Node>) -> Option<&Also> {
        self.also.get(&node.id)
    }

    /// Says what a node's result is beside its name.
    pub fn is_also(&mut self, node: &Arc<Node>, also: Also) {
        self.also.insert(node.id, also);
    }

    /// Names a result of a node that is not its first.
    pub fn name_result(&mut self, node: &Arc<Node>, number: usize, name: String) {
        self.names.insert((node.id, number), name);
    }

    /// The domain that an op of the user's leaves in.
    pub fn domain(&mut self, op: &str) -> Option<String> {
        let domain = self.options.domains.get(op).cloned()?;
        self.domains.insert(domain.clone(), 1);
        Some(domain)
    }

    /// A name that nobody has.
    pub fn name(&mut self) -> String {
        loop {
            self.fresh += 1;
            let name = format!("_{}", self.fresh);
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// Stores a tensor under a name, unless there is one.
    pub fn store(&mut self, name: &str, dtype: DType, shape: &[usize], values: &[f64]) {
        if !self.stored.insert(name.into()) {
            return;
        }
        let mut raw_data = Vec::with_capacity(values.len() * 4);
        for &value in values {
            match dtype {
                DType::F32 => raw_data.extend((value as f32).to_le_bytes()),
                DType::F16 => raw_data.extend(half::f16::from_f64(value).to_le_bytes()),
                DType::I32 => raw_data.extend((value as i32).to_le_bytes()),
                DType::U32 => raw_data.extend((value as i64).to_le_bytes()),
                DType::Bool => raw_data.push(u8::from(value != 0.0)),
            }
        }
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            data_type: type_of(dtype),
            dims: shape.iter().map(|&length| length as i64).collect(),
            raw_data,
            ..TensorProto::default()
        });
    }

    /// Says which parameter a stored tensor holds, in another layout: it gets that name where the parameter's own layout is not wanted.
    pub fn holds(&mut self, name: &str, parameter: &str) {
        self.held.push((name.into(), parameter.into()));
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
    pub fn push(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) {
        self.push_of("", op, inputs, outputs, attributes);
    }

    /// Adds a node of a domain.
    pub fn push_of(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) {
        let name = format!("{op}_{}", self.graph.node.len());
        let given = inputs.iter().rposition(|input| !input.is_empty()).map_or(0, |last| last + 1);
        let list = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        self.graph.node.push(NodeProto {
            name,
            op_type: op.into(),
            input: list(inputs.get(..given).unwrap_or_default()),
            output: list(outputs),
            attribute: attributes,
            domain: domain.into(),
        });
    }

    /// Adds a node of one output, and gives its name.
    pub fn add(&mut self, op: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.name();
        self.push(op, inputs, &[&output], attributes);
        output
    }

    /// A vector with free length `place` alone.
    fn vector(&mut self, place: usize) -> String {
        if let Some(name) = self.vectors.get(&place) {
            return name.clone();
        }
        let axis = self.free.get(place).and_then(|free| free.axes.first().copied());
        let (input, axis) = axis.unwrap_or_default();
        let input = self.graph.input.get(input).map(|port| port.name.clone()).unwrap_or_default();
        let name = match self.opset {
            ..=14 => {
                let (shape, axis) = (self.add("Shape", &[&input], vec![]), self.wholes(&[axis as i64]));
                self.add("Gather", &[&shape, &axis], vec![])
            }
            _ => {
                let axis = axis as i64;
                self.add("Shape", &[&input], vec![emit::int("start", axis), emit::int("end", axis + 1)])
            }
        };
        self.vectors.insert(place, name.clone());
        name
    }

    /// What a number of the graph is of the free lengths, by its values in the recordings.
    ///
    /// # Errors
    /// What is wrong where it is neither a product nor a sum of them.
    pub fn length(&self, values: &[i64]) -> Result<Length, String> {
        length(&self.free, values).ok_or_else(|| {
            format!("a length of {} that is {:?} elsewhere, by {}", values[0], &values[1..], self.lengths())
        })
    }

    /// A vector of one number.
    pub fn length_name(&mut self, length: &Length) -> String {
        match length {
            Length::Fixed(value) => self.wholes(&[*value]),
            Length::Product(factor, of) => {
                let parts: Vec<String> = of.iter().map(|&place| self.vector(place)).collect();
                let factor = (*factor != 1).then(|| self.wholes(&[*factor]));
                let all = parts.into_iter().chain(factor).reduce(|a, b| self.add("Mul", &[&a, &b], vec![]));
                all.unwrap_or_default()
            }
            Length::Sum(rest, of) => {
                let mut parts = vec![];
                for &(place, times) in of {
                    let (vector, factor) = (self.vector(place), self.wholes(&[times]));
                    parts.push(if times == 1 { vector } else { self.add("Mul", &[&vector, &factor], vec![]) });
                }
                let rest = (*rest != 0).then(|| self.wholes(&[*rest]));
                let all = parts.into_iter().chain(rest).reduce(|a, b| self.add("Add", &[&a, &b], vec![]));
                all.unwrap_or_default()
            }
        }
    }

    /// A vector of numbers, each by its values in the recordings.
    ///
    /// # Errors
    /// As [`Writer::length`].
    pub fn numbers(&mut self, axes: &[Vec<i64>]) -> Result<String, String> {
        let lengths: Vec<Length> = axes.iter().map(|values| self.length(values)).collect::<Result<_, _>>()?;
        let fixed: Option<Vec<i64>> = lengths
            .iter()
            .map(|length| match length {
                Length::Fixed(value) => Some(*value),
                _ => None,
            })
            .collect();
        if let Some(fixed) = fixed {
            return Ok(self.wholes(&fixed));
        }
        let parts: Vec<String> = lengths.iter().map(|length| self.length_name(length)).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(if let [one] = parts[..] { one.into() } else { self.add("Concat", &parts, vec![emit::int("axis", 0)]) })
    }
}
