//! [`Model`]: a network that came from a file.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use prost::Message;

use super::call::{Port, Program, Value};
use super::elem::Elem;
use super::graph::Builder;
use super::numbers::Numbers;
use super::ops;
use super::proto::ModelProto;
use super::run::{Pass, node_on, record};
use super::trouble::Trouble;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::init::Init;
use crate::nn::{Mode, Summary};
use crate::params::{Param, ParamStore};
use crate::state::State;
use crate::tensor::Tensor;

/// The newest version of ONNX's own ops that is known here.
const NEWEST: i64 = 28;

/// A network from an ONNX file: its parameters are in a store of its own, so that optimizers, averages, freezing and checkpoints work as on
/// any other.
///
/// Stored tensors of floats are parameters, under their names in the file, but for single numbers and for what an op must know while it is
/// recorded (the scales of a `Resize`). Running statistics of a `BatchNormalization` are states. Whole numbers, and what is computed
/// from constants alone, are folded.
pub struct Model {
    program: Program,
    params: ParamStore,
    parameters: BTreeMap<usize, (Param, Elem)>,
    states: BTreeMap<usize, (State, Elem)>,
    metadata: BTreeMap<String, String>,
}

/// Reads the model in the file at `path`; its parameters are on `device`. Data beside the file are read, too.
///
/// # Errors
/// [`Error::Io`] if it cannot be read, [`Error::Onnx`] for what is wrong with it, [`Error::Unsupported`] with all that Kiln has not: ops,
/// attributes and element types, each with the name of its node.
pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<Model> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let name = path.display().to_string();
    let file = decoded(&bytes, &name)?;
    drop(bytes);
    read(file, Some(folder), &name, device)
}

/// Reads the model in `bytes`; one that has data in other files is refused.
///
/// # Errors
/// As [`load`].
pub fn load_bytes(bytes: &[u8], device: &Device) -> Result<Model> {
    read(decoded(bytes, "the model")?, None, "the model", device)
}

fn refused(what: String) -> Error {
    Error::Onnx { what, next: "check the file with `onnx.checker`, or export the model again" }
}

fn decoded(bytes: &[u8], name: &str) -> Result<ModelProto> {
    ModelProto::decode(bytes).map_err(|error| refused(format!("{name} is no ONNX file: {error}")))
}

fn read(mut file: ModelProto, folder: Option<&Path>, name: &str, device: &Device) -> Result<Model> {
    let Some(graph) = &mut file.graph else {
        return Err(refused(format!("{name} has no graph")));
    };
    let mut versions = HashMap::new();
    let mut missing = vec![];
    for set in &file.opset_import {
        let domain = if set.domain == "ai.onnx" { "" } else { &set.domain };
        if domain.is_empty() && !(1..=NEWEST).contains(&set.version) {
            missing.push(format!("version {} of ONNX's ops (1 to {NEWEST} are known)", set.version));
        }
        versions.insert(domain.to_string(), set.version);
    }
    missing
        .extend(file.functions.iter().map(|function| format!("the function `{}` of the model's own", function.name)));
    let mut builder = Builder { versions, folder, find: ops::find, missing, wrong: vec![] };
    let program = builder.program(graph, false, 0);
    if !builder.wrong.is_empty() {
        return Err(refused(format!("{name}: {}", listed(&builder.wrong))));
    }
    if !builder.missing.is_empty() {
        return Err(Error::Unsupported { what: listed(&builder.missing) });
    }
    let metadata = file.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    Model::of(program, metadata, device)
}

/// A list in an error: each entry once, a line each where there are several.
fn listed(entries: &[String]) -> String {
    const MOST: usize = 64;
    match entries {
        [one] => one.clone(),
        _ => {
            let mut lines: Vec<&str> = vec![];
            for entry in entries {
                if !lines.contains(&entry.as_str()) {
                    lines.push(entry);
                }
            }
            let rest = lines.len().saturating_sub(MOST);
            lines.truncate(MOST);
            let more = if rest > 0 { format!("\n  and {rest} more") } else { String::new() };
            format!("\n  {}{more}\n", lines.join("\n  "))
        }
    }
}

impl Model {
    fn of(mut program: Program, metadata: BTreeMap<String, String>, device: &Device) -> Result<Model> {
        let params = ParamStore::new(device, 0);
        let (mut parameters, mut states) = (BTreeMap::new(), BTreeMap::new());
        let (mut given, mut large) = (vec![], vec![]);
        let roles = roles(&program);
        // What no node takes is of use only as an output.
        for slot in program.outputs.iter().map(|port| port.slot).filter(|slot| !roles.contains_key(slot)) {
            if let Some(weight) = program.weights.remove(&slot) {
                let numbers = weight.numbers().map_err(|trouble| trouble.of_node("an output"))?;
                program.constants.insert(slot, Arc::new(numbers));
            }
        }
        for (slot, role) in roles {
            if let Some(weight) = program.weights.remove(&slot) {
                let name = program.names.get(slot).cloned().unwrap_or_default();
                if role == Role::Parameter {
                    let param = params.root().param(&name, &weight.shape, Init::Zeros);
                    parameters.insert(slot, (param.clone(), weight.elem));
                    large.push((param, weight, name));
                    continue;
                }
                let numbers = weight.numbers().map_err(|trouble| trouble.of_node(&name))?;
                program.constants.insert(slot, Arc::new(numbers));
            }
            let Some(numbers) = program.constants.get(&slot).cloned() else { continue };
            let name = program.names.get(slot).cloned().unwrap_or_default();
            match role {
                Role::State => {
                    let initial = numbers.cast(Elem::F32).tensor(device).map_err(|trouble| trouble.of_node(&name))?;
                    states.insert(slot, (params.root().state(&name, &initial), numbers.elem));
                }
                Role::Parameter => {
                    let param = params.root().param(&name, &numbers.shape, Init::Zeros);
                    if let Some(number) = param.number_in(&params)? {
                        given.push(Ok((number, numbers.reals())));
                    }
                    parameters.insert(slot, (param, numbers.elem));
                }
                Role::Constant => continue,
            }
            program.constants.remove(&slot);
        }
        if !given.is_empty() {
            params.overwrite(given)?;
        }
        if !large.is_empty() {
            // In pieces: all of a large model at once, or its largest tensor, would need room for it.
            params.overwrite_bytes(|put| {
                for (param, weight, name) in large {
                    let Some(number) = param.number_in(&params)? else { continue };
                    let dtype = weight.dtype();
                    let written = weight.pieces(|first, bytes| put(number, first, dtype, bytes));
                    written.map_err(|trouble| trouble.of_node(&name))?;
                }
                Ok(())
            })?;
        }
        let mut model = Model { program, params, parameters, states, metadata };
        model.fold();
        Ok(model)
    }

    /// Runs what depends on constants alone. What fails is left for a pass, whose error names it.
    fn fold(&mut self) {
        let mut values = vec![Value::Absent; self.program.names.len()];
        for (&slot, numbers) in &self.program.constants {
            if let Some(place) = values.get_mut(slot) {
                *place = Value::Known(numbers.clone());
            }
        }
        let mut rest = vec![];
        let pass = Pass { mode: Mode::Eval, device: self.params.device(), draws: self.params.draws() };
        for node in std::mem::take(&mut self.program.nodes) {
            let is_constant = |slot: &Option<usize>| match slot {
                Some(slot) => matches!(values.get(*slot), Some(Value::Known(_))),
                None => true,
            };
            if node.row.is_random || !node.inputs.iter().all(is_constant) {
                rest.push(node);
                continue;
            }
            let is_done = node_on(&node, &mut values, &|_| None, &pass).is_ok();
            let known = |slot: &usize| match values.get(*slot) {
                Some(Value::Known(numbers)) => Some((*slot, numbers.clone())),
                _ => None,
            };
            let outputs: Vec<usize> = node.outputs.iter().flatten().copied().collect();
            let results: Vec<_> = outputs.iter().filter_map(known).collect();
            if is_done && results.len() == outputs.len() {
                self.program.constants.extend(results);
                continue;
            }
            for slot in outputs {
                if let Some(place) = values.get_mut(slot) {
                    *place = Value::Absent;
                }
            }
            rest.push(node);
        }
        self.program.nodes = rest;
    }

    /// The outputs for these inputs, in the order of [`Model::inputs`]; recorded, not run. `Dropout` and `BatchNormalization` follow
    /// `mode`.
    ///
    /// Where an op needs numbers to know its result's shape, they are read: what was passed in is at hand, what the device computes is
    /// waited for.
    ///
    /// # Errors
    /// All outputs carry [`Error::Onnx`] if the inputs are not those that the model takes, [`Error::Unsupported`] for a case of an op that
    /// Kiln has not, or the error of the op that refuses what it gets, each with the node's name.
    #[track_caller]
    pub fn forward(&self, inputs: &[Tensor], mode: Mode) -> Vec<Tensor> {
        let at = Location::caller();
        let device = self.params.device();
        match self.outputs_for(inputs, mode) {
            Ok(outputs) => outputs,
            Err(error) => self.program.outputs.iter().map(|_| Tensor::invalid(device, error.clone(), at)).collect(),
        }
    }

    fn outputs_for(&self, inputs: &[Tensor], mode: Mode) -> Result<Vec<Tensor>> {
        let mut values = vec![Value::Absent; self.program.names.len()];
        let mut set = |slot: usize, value: Value| {
            if let Some(place) = values.get_mut(slot) {
                *place = value;
            }
        };
        for (&slot, numbers) in &self.program.constants {
            set(slot, Value::Known(numbers.clone()));
        }
        for (&slot, (param, elem)) in &self.parameters {
            set(slot, Value::Tensor(param.tensor().cast(elem.dtype()), *elem));
        }
        for (&slot, (state, elem)) in &self.states {
            set(slot, Value::Tensor(state.get().cast(elem.dtype()), *elem));
        }
        if inputs.len() != self.program.inputs.len() {
            let names: Vec<&str> = self.program.inputs.iter().map(|port| port.name.as_str()).collect();
            let what = format!("{} inputs for a model that takes {}: {}", inputs.len(), names.len(), names.join(", "));
            return Err(Error::Onnx { what, next: "pass a tensor for each input, in this order" });
        }
        for (port, tensor) in self.program.inputs.iter().zip(inputs) {
            set(port.slot, fitting(port, tensor)?);
        }
        let states = |slot: usize| self.states.get(&slot).map(|(state, _)| state.clone());
        let pass = Pass { mode, device: self.params.device(), draws: self.params.draws() };
        record(&self.program, &mut values, &states, &pass)?;
        let output = |port: &Port| {
            let made = match values.get(port.slot) {
                Some(Value::Tensor(tensor, _)) => Ok(tensor.clone()),
                Some(Value::Known(numbers)) if numbers.len() == 0 => {
                    Err(Trouble::Unsupported(format!("it has no elements (shape {:?})", numbers.shape)))
                }
                Some(Value::Known(numbers)) => numbers.tensor(self.params.device()),
                _ => Err(Trouble::Wrong("no node gives it".into())),
            };
            made.map_err(|trouble| trouble.of_node(&format!("output `{}`", port.name)))
        };
        self.program.outputs.iter().map(output).collect()
    }

    /// Its parameters, under their names in the file, and its running statistics.
    pub fn params(&self) -> &ParamStore {
        &self.params
    }

    /// What [`Model::forward`] takes.
    pub fn inputs(&self) -> &[Port] {
        &self.program.inputs
    }

    /// What [`Model::forward`] gives.
    pub fn outputs(&self) -> &[Port] {
        &self.program.outputs
    }

    /// What the file says beside the graph: classes, preprocessing, whatever its maker put there.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What it consists of, for these inputs: one pass for evaluation is recorded, and not run.
    ///
    /// # Errors
    /// As [`Model::forward`].
    #[track_caller]
    pub fn summary(&self, inputs: &[Tensor]) -> Result<Summary> {
        match self.forward(inputs, Mode::Eval).first() {
            Some(output) => Summary::of(output),
            None => Err(refused("the model has no outputs".into())),
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({} nodes, {} parameters)", self.program.nodes.len(), self.params.count())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Parameter,
    State,
    Constant,
}

/// What stored tensors of floats are: as the nodes use them. One that is used in two ways is what comes last of parameter, state, constant.
fn roles(program: &Program) -> BTreeMap<usize, Role> {
    let mut roles: BTreeMap<usize, Role> = BTreeMap::new();
    for node in &program.nodes {
        for (number, slot) in node.inputs.iter().enumerate() {
            let Some(slot) = slot else { continue };
            let is_weight = match program.constants.get(slot) {
                Some(numbers) => numbers.elem.is_float() && !numbers.shape.is_empty() && numbers.len() > 0,
                None if program.weights.contains_key(slot) => true,
                None => continue,
            };
            let role = match is_weight {
                false => Role::Constant,
                true if node.row.known.contains(&number) => Role::Constant,
                true if node.row.states.contains(&number) => Role::State,
                true => Role::Parameter,
            };
            let known = roles.entry(*slot).or_insert(role);
            *known = role.max(*known);
        }
    }
    roles
}

/// An input as the model takes it.
fn fitting(port: &Port, tensor: &Tensor) -> Result<Value> {
    let (shape, dtype) = (tensor.shape()?, tensor.dtype()?);
    let elem = port.elem.unwrap_or(Elem::natural(dtype));
    let wants = |what: String| Error::Onnx {
        what: format!("input `{}`: {what}", port.name),
        next: "pass a tensor of the shape and dtype that the model was made for",
    };
    let wanted = elem.dtype();
    if dtype != wanted && !(dtype.is_integer() && wanted.is_integer()) {
        return Err(wants(format!("a tensor of {dtype} where {elem} ({wanted}) is wanted")));
    }
    if let Some(dims) = &port.dims {
        let fits = dims.len() == shape.len()
            && dims.iter().zip(shape).all(|(dim, length)| dim.as_ref().map_or(true, |dim| dim == length));
        if !fits {
            let dims: Vec<String> = dims
                .iter()
                .map(|dim| match dim {
                    Ok(length) => length.to_string(),
                    Err(name) if name.is_empty() => "?".into(),
                    Err(name) => name.clone(),
                })
                .collect();
            return Err(wants(format!("shape {shape:?} where [{}] is wanted", dims.join(", "))));
        }
    }
    Ok(Value::Tensor(tensor.cast(wanted), elem))
}

/// The tensor that `bytes` hold, a `TensorProto` as in the files `input_0.pb` of test data.
///
/// # Errors
/// [`Error::Onnx`] or [`Error::Unsupported`] for what is none, for an element type that Kiln does not hold, for none of elements, and for whole
/// numbers beyond 32 bits.
pub fn tensor(bytes: &[u8], device: &Device) -> Result<Tensor> {
    let file =
        super::proto::TensorProto::decode(bytes).map_err(|error| refused(format!("this is no tensor: {error}")))?;
    let numbers: Result<Arc<Numbers>, Trouble> = super::decode::numbers(&file, None).map(Arc::new);
    let made = numbers.and_then(|numbers| match numbers.len() {
        0 => Err(Trouble::Unsupported(format!("it has no elements (shape {:?})", numbers.shape))),
        _ => numbers.tensor(device),
    });
    made.map_err(|trouble| trouble.of_node(&format!("tensor `{}`", file.name)))
}
