//! A node of a model, and what its op sees when it is recorded: values, attributes, the mode.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::Weight;
use super::elem::Elem;
use super::numbers::Numbers;
use super::trouble::{Trouble, unsupported, wrong};
use crate::device::Device;
use crate::dtype::DType;
use crate::nn::Mode;
use crate::rng::Draws;
use crate::state::State;
use crate::tensor::Tensor;

/// What flows along an edge of the graph.
#[derive(Debug, Clone)]
pub enum Value {
    /// An input that is left out.
    Absent,
    /// A tensor of the device, and ONNX's type of its elements.
    Tensor(Tensor, Elem),
    /// Numbers that are known while recording.
    Known(Arc<Numbers>),
}

/// What an op gives: a value for each of its outputs, or fewer where the rest is left out.
pub type Outcome = Result<Vec<Value>, Trouble>;

/// An op: a row of the table of those that Kiln has.
#[derive(Debug)]
pub struct Row {
    /// ONNX's name.
    pub name: &'static str,
    /// Attributes that it understands.
    pub attributes: &'static [&'static str],
    /// Inputs whose numbers it must know while recording: what stands there is a constant, never a parameter.
    pub known: &'static [usize],
    /// Inputs that are running statistics.
    pub states: &'static [usize],
    /// True if it takes numbers that are known as they are. Else they become tensors, of the reference where all are known.
    pub native: bool,
    /// True if it draws random numbers, or follows the mode: it is never folded.
    pub is_random: bool,
    /// Records it.
    pub run: fn(&Call<'_>) -> Outcome,
}

impl Row {
    /// An op without attributes, whose inputs are tensors.
    pub const fn new(name: &'static str, run: fn(&Call<'_>) -> Outcome) -> Row {
        Row { name, attributes: &[], known: &[], states: &[], native: false, is_random: false, run }
    }

    /// With attributes of these names.
    pub const fn with(self, attributes: &'static [&'static str]) -> Row {
        Row { attributes, ..self }
    }

    /// With inputs whose numbers must be known.
    pub const fn knows(self, known: &'static [usize]) -> Row {
        Row { known, ..self }
    }

    /// With inputs that are running statistics.
    pub const fn keeps(self, states: &'static [usize]) -> Row {
        Row { states, ..self }
    }

    /// Drawing random numbers, or following the mode.
    pub const fn random(self) -> Row {
        Row { is_random: true, ..self }
    }

    /// Taking known numbers as they are.
    pub const fn native(self) -> Row {
        Row { native: true, ..self }
    }
}

/// The value of an attribute.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Attribute {
    Int(i64),
    Float(f64),
    Text(String),
    Ints(Vec<i64>),
    Floats(Vec<f64>),
    Texts(Vec<String>),
    Numbers(Arc<Numbers>),
    /// A graph, and where what it takes from around it begins among the node's captured values.
    Graph(Arc<Program>, usize),
}

/// A node whose names are places in a list of values.
#[derive(Debug)]
pub struct Node {
    /// What it is called in messages: its op, and its name or that of its first output.
    pub label: String,
    /// Its op.
    pub row: &'static Row,
    /// The version of its set of ops.
    pub version: i64,
    /// Its attributes.
    pub attributes: BTreeMap<String, Attribute>,
    /// Where its inputs are, and behind them what its graphs take from around them.
    pub inputs: Vec<Option<usize>>,
    /// How many of these are the op's own.
    pub own: usize,
    /// Where its outputs go.
    pub outputs: Vec<Option<usize>>,
}

/// An input of a graph.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its place in the list of values.
    pub slot: usize,
    /// Its element type, where the model says it.
    pub elem: Option<Elem>,
    /// Its axes: lengths, or names of free ones; `None` where the model does not say.
    pub dims: Option<Vec<Result<usize, String>>>,
}

/// A graph that has been checked: nodes in an order in which they can run.
#[derive(Debug, Default)]
pub struct Program {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Names of the values, by their places.
    pub names: Vec<String>,
    /// What is passed in.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// Tensors that the file holds, by their places.
    pub constants: BTreeMap<usize, Arc<Numbers>>,
    /// Large tensors of floats that the file holds, by their places: not decoded yet.
    pub weights: BTreeMap<usize, Weight>,
    /// Names of the graph around that are used in this one, and their places here.
    pub captures: Vec<(String, usize)>,
}

/// Runs a graph of a node on its inputs, and on what it takes from around it.
pub type RunGraph = fn(&Program, &[Value], &[Value], &Call<'_>) -> Outcome;

/// A node while it is recorded.
pub struct Call<'a> {
    /// The node.
    pub node: &'a Node,
    /// The values of its own inputs.
    pub inputs: &'a [Value],
    /// The values that its graphs take from around them.
    pub captured: &'a [Value],
    /// Running statistics among the inputs, by their places.
    pub states: &'a [Option<State>],
    /// Whether the pass is for learning.
    pub mode: Mode,
    /// The device.
    pub device: &'a Device,
    /// The counter of random draws.
    pub draws: &'a Draws,
    /// Runs a graph of the node.
    pub run_graph: RunGraph,
}

impl Call<'_> {
    /// Input `i`; [`Value::Absent`] behind the last.
    pub fn value(&self, i: usize) -> &Value {
        self.inputs.get(i).unwrap_or(&Value::Absent)
    }

    /// True if there is an input `i`.
    pub fn has(&self, i: usize) -> bool {
        !matches!(self.value(i), Value::Absent)
    }

    /// True if somebody wants output `i`.
    pub fn wants(&self, i: usize) -> bool {
        self.node.outputs.get(i).is_some_and(Option::is_some)
    }

    /// Input `i` as a tensor.
    pub fn tensor(&self, i: usize) -> Result<Tensor, Trouble> {
        match self.value(i) {
            Value::Absent => wrong(format!("input {i} is missing")),
            Value::Tensor(tensor, _) => Ok(tensor.clone()),
            Value::Known(numbers) if numbers.len() == 0 => {
                unsupported(format!("input {i} has no elements (shape {:?})", numbers.shape))
            }
            Value::Known(numbers) => numbers.tensor(self.device),
        }
    }

    /// Input `i` as a tensor, if there is one.
    pub fn optional(&self, i: usize) -> Result<Option<Tensor>, Trouble> {
        if self.has(i) { self.tensor(i).map(Some) } else { Ok(None) }
    }

    /// The element type of input `i`.
    pub fn elem(&self, i: usize) -> Result<Elem, Trouble> {
        match self.value(i) {
            Value::Absent => wrong(format!("input {i} is missing")),
            Value::Tensor(_, elem) => Ok(*elem),
            Value::Known(numbers) => Ok(numbers.elem),
        }
    }

    /// The shape of input `i`.
    pub fn shape(&self, i: usize) -> Result<Vec<usize>, Trouble> {
        match self.value(i) {
            Value::Absent => wrong(format!("input {i} is missing")),
            Value::Tensor(tensor, _) => Ok(tensor.shape()?.to_vec()),
            Value::Known(numbers) => Ok(numbers.shape.clone()),
        }
    }

    /// The numbers of input `i`. Those of a tensor are read: what was passed to the model is at hand, what is computed is
    /// waited for.
    pub fn known(&self, i: usize) -> Result<Arc<Numbers>, Trouble> {
        match self.value(i) {
            Value::Absent => wrong(format!("input {i} is missing")),
            Value::Tensor(tensor, elem) => Numbers::read(tensor, *elem).map(Arc::new),
            Value::Known(numbers) => Ok(numbers.clone()),
        }
    }

    /// The whole numbers of input `i`.
    pub fn wholes(&self, i: usize) -> Result<Vec<i64>, Trouble> {
        self.known(i)?.wholes()
    }

    /// The only number of input `i`.
    pub fn number(&self, i: usize) -> Result<f64, Trouble> {
        match self.known(i)?.reals()[..] {
            [number] => Ok(number),
            ref others => wrong(format!("input {i} has {} numbers, where one is wanted", others.len())),
        }
    }

    /// An attribute that is a whole number.
    pub fn int(&self, name: &str, default: i64) -> Result<i64, Trouble> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => wrong(format!("attribute `{name}` is no whole number")),
        }
    }

    /// An attribute that is a flag.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool, Trouble> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    /// An attribute that is a number.
    pub fn float(&self, name: &str, default: f64) -> Result<f64, Trouble> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => wrong(format!("attribute `{name}` is no number")),
        }
    }

    /// An attribute that is a text.
    pub fn text(&self, name: &str, default: &str) -> Result<String, Trouble> {
        match self.node.attributes.get(name) {
            None => Ok(default.into()),
            Some(Attribute::Text(value)) => Ok(value.clone()),
            Some(_) => wrong(format!("attribute `{name}` is no text")),
        }
    }

    /// An attribute that is a list of whole numbers.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Trouble> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values.clone())),
            Some(_) => wrong(format!("attribute `{name}` is no list of whole numbers")),
        }
    }

    /// An attribute that is a list of sizes.
    pub fn sizes(&self, name: &str) -> Result<Option<Vec<usize>>, Trouble> {
        match self.ints(name)? {
            None => Ok(None),
            Some(values) => sizes(&values, name).map(Some),
        }
    }

    /// Runs the graph that attribute `name` holds.
    pub fn graph(&self, name: &str, inputs: &[Value]) -> Outcome {
        let Some(Attribute::Graph(program, first)) = self.node.attributes.get(name) else {
            return wrong(format!("attribute `{name}` is no graph"));
        };
        (self.run_graph)(program, inputs, self.captured.get(*first..).unwrap_or_default(), self)
    }

    /// The graph that attribute `name` holds.
    pub fn graph_of(&self, name: &str) -> Result<&Program, Trouble> {
        match self.node.attributes.get(name) {
            Some(Attribute::Graph(program, _)) => Ok(program),
            _ => wrong(format!("attribute `{name}` is no graph")),
        }
    }

    /// True if the node has this attribute.
    pub fn says(&self, name: &str) -> bool {
        self.node.attributes.contains_key(name)
    }

    /// An attribute `axis`, as a place among `rank` axes.
    pub fn axis(&self, name: &str, default: i64, rank: usize) -> Result<usize, Trouble> {
        place(self.int(name, default)?, rank)
    }

    /// A tensor of this device and type, all `value`.
    pub fn filled(&self, shape: &[usize], value: f64, elem: Elem) -> Tensor {
        self.device.full(shape, value, elem.dtype())
    }
}

/// An axis that counts from either end, as a place from the front.
pub fn place(axis: i64, rank: usize) -> Result<usize, Trouble> {
    let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match from_front.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
        Some(axis) => Ok(axis),
        None => wrong(format!("axis {axis} is out of range for {rank} axes")),
    }
}

/// Several axes.
pub fn places(axes: &[i64], rank: usize) -> Result<Vec<usize>, Trouble> {
    axes.iter().map(|&axis| place(axis, rank)).collect()
}

/// Sizes: whole numbers from 0 on, of 31 bits, so that products of two do not overflow.
pub fn sizes(values: &[i64], what: &str) -> Result<Vec<usize>, Trouble> {
    let size = |&value: &i64| match usize::try_from(value).ok().filter(|&size| size <= i32::MAX as usize) {
        Some(size) => Ok(size),
        None => wrong(format!("{what} has {value}, which is no size")),
    };
    values.iter().map(size).collect()
}

/// A single tensor as an outcome.
pub fn one(tensor: Tensor, elem: Elem) -> Outcome {
    Ok(vec![Value::Tensor(tensor, elem)])
}

/// Known numbers as an outcome.
pub fn known(numbers: Numbers) -> Outcome {
    Ok(vec![Value::Known(Arc::new(numbers))])
}

/// What arithmetic made of whole numbers that are narrower than what holds them: they wrap.
pub fn settled(tensor: Tensor, elem: Elem) -> Tensor {
    match (elem.narrow(), elem.dtype()) {
        (Some(bits), DType::U32) => tensor.bitwise_and((1i64 << bits) - 1),
        (Some(bits), DType::I32) => tensor.shift_left(32 - bits).shift_right(32 - bits),
        _ => tensor,
    }
}

/// `tensor` as another element type, as a cast does.
pub fn cast(tensor: &Tensor, from: Elem, to: Elem) -> Tensor {
    if from == to {
        return tensor.clone();
    }
    let (dtype, held) = (to.dtype(), tensor.dtype().unwrap_or(from.dtype()));
    let Some(bits) = to.narrow() else { return tensor.cast(dtype) };
    // Floats are cut toward zero first; only then do the bits beyond the type's fall away.
    let whole = match held {
        DType::I32 | DType::U32 => tensor.clone(),
        _ => tensor.cast(DType::F32).cast(DType::I32),
    };
    settled(whole.bitwise_and((1i64 << bits) - 1).cast(dtype), to)
}
