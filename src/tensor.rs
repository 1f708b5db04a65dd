//! [`Tensor`]: a handle to one recorded node, and the recording of ops.

use std::cell::Cell;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::LocalKey;

use crate::device::Device;
use crate::dtype::{DType, Precision};
use crate::error::{Error, Problem, Result};
use crate::graph::{Inputs, Node, Source, Value, scalar};
use crate::history::Flow;
use crate::host::HostData;
use crate::layout::Meta;
use crate::op::{Casting, Op};
use crate::profile::Phase;
use crate::shape::Shape;

thread_local! {
    static NO_GRAD: Cell<bool> = const { Cell::new(false) };
    static IN_RULE: Cell<bool> = const { Cell::new(false) };
    static PRECISION: Cell<Option<Precision>> = const { Cell::new(None) };
}

/// Runs `body` with `flag` set to `value`.
fn with<T: Copy + 'static, R>(flag: &'static LocalKey<Cell<T>>, value: T, body: impl FnOnce() -> R) -> R {
    struct Restore<T: Copy + 'static>(&'static LocalKey<Cell<T>>, T);
    impl<T: Copy + 'static> Drop for Restore<T> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    let _restore = Restore(flag, flag.replace(value));
    body()
}

/// Runs `body` without recording gradients: tensors made in it do not require them. They are values that later updates do
/// not touch, as with [`Tensor::detach`].
pub fn no_grad<R>(body: impl FnOnce() -> R) -> R {
    with(&NO_GRAD, true, body)
}

/// False within [`no_grad`].
pub(crate) fn records_gradients() -> bool {
    !NO_GRAD.get()
}

/// Records what `body` does in `precision`, whatever the parameter stores say ([`crate::ParamStore::set_precision`]): as
/// `torch.autocast(enabled=..)`. Gradients follow the ops that they are the gradients of.
pub fn with_precision<R>(precision: Precision, body: impl FnOnce() -> R) -> R {
    with(&PRECISION, Some(precision), body)
}

/// True if an op on `inputs` is recorded in mixed precision. A gradient rule computes in the dtypes that it finds.
pub(crate) fn is_mixed(inputs: &[&Tensor]) -> bool {
    let of_store = || {
        let mut stores = inputs.iter().flat_map(|input| &input.node.stores);
        stores.any(|store| store.precision() == Precision::Mixed)
    };
    !IN_RULE.get() && PRECISION.get().map_or_else(of_store, |precision| precision == Precision::Mixed)
}

/// The f16 ones of `inputs` as f32 where mixed precision wants that of `op`; `None` where they are fine as they are.
fn widened(op: &dyn Op, inputs: &[&Tensor]) -> Option<Vec<Tensor>> {
    let half = |input: &&Tensor| input.node.meta.dtype == DType::F16;
    if op.casting() == Casting::Own || !inputs.iter().any(half) || !is_mixed(inputs) {
        return None;
    }
    let all = inputs.iter().all(|input| half(input) || !input.node.meta.dtype.is_float());
    (op.casting() == Casting::Full || !all).then(|| inputs.iter().map(|input| input.widen()).collect())
}

/// Runs a gradient rule. Host numbers in it are constants of the graph: they depend on the op's attributes alone, and the
/// key of a step, which is taken before rules run, has no place for operands of theirs.
pub(crate) fn in_rule<R>(rule: impl FnOnce() -> R) -> R {
    with(&IN_RULE, true, rule)
}

/// `Err` inside a gradient rule, for what only a program may do: rules run while a step is planned, not at each step.
pub(crate) fn outside_rules(op: &'static str, at: &'static Location<'static>) -> Result<()> {
    if !IN_RULE.get() {
        return Ok(());
    }
    let what = "a gradient rule asked for values".into();
    Err(Error::Value { op, at, what, next: "form the gradient from ops: rules are run when a step is planned" })
}

/// A handle to one node of a recorded graph. Cloning copies the handle.
///
/// Ops return tensors, never `Result`s: an invalid op gives a tensor that carries an [`Error`] with the op's name, the
/// shapes and the source line, and passes it on; reading, stepping and saving return it.
pub struct Tensor {
    node: Arc<Node>,
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Tensor::from_node(self.node.clone())
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        self.node.handles.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Tensor {
    pub(crate) fn from_node(node: Arc<Node>) -> Tensor {
        node.handles.fetch_add(1, Ordering::AcqRel);
        Tensor { node }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// A tensor that carries `error`.
    pub(crate) fn invalid(device: &Device, error: Error, at: &'static Location<'static>) -> Tensor {
        let node = Node::new(device, scalar(DType::F32), Source::Error(error), Inputs::new(), Flow::Nothing, at);
        Tensor::from_node(Arc::new(node))
    }

    /// A leaf.
    pub(crate) fn leaf(device: &Device, meta: Meta, source: Source, at: &'static Location<'static>) -> Tensor {
        Tensor::from_node(Arc::new(Node::new(device, meta, source, Inputs::new(), Flow::Nothing, at)))
    }

    /// A host number that travels with each step: changing it from step to step never makes a new plan. It is what
    /// [`DType::hold`] makes of it, on every device; a number that the dtype does not hold is an error of `op`.
    #[track_caller]
    pub(crate) fn operand(device: &Device, dtype: DType, number: f64, op: &'static str) -> Tensor {
        let at = Location::caller();
        let Some(value) = dtype.hold(number) else {
            return Tensor::invalid(device, Problem::number(dtype, number).at(op, at), at);
        };
        if IN_RULE.get() {
            return device.fixed(&[], dtype, number);
        }
        let word = match dtype {
            DType::F32 | DType::F16 => (value as f32).to_bits(),
            DType::I32 => value as i32 as u32,
            DType::U32 | DType::Bool => value as u32,
        };
        let source = Source::Operand { value: [value, 0.0, 0.0, 0.0], words: [word, 0, 0, 0] };
        Tensor::leaf(device, scalar(dtype), source, at)
    }

    /// Records `op` on `inputs`; of several results it gives the first.
    ///
    /// This is how an op of your own enters a graph: implement [`Op`] and call this.
    #[track_caller]
    pub fn apply(op: impl Op, inputs: &[&Tensor]) -> Tensor {
        let at = Location::caller();
        let Some(first) = inputs.first() else {
            let problem = Problem::Value("no inputs".into(), "pass at least one tensor");
            return Tensor::invalid(&Device::cpu(), problem.at(op.name(), at), at);
        };
        Tensor::record(&first.node.device.clone(), Arc::new(op), inputs, at)
    }

    /// Records `op`, which has `N` results, on `inputs`.
    ///
    /// # Errors
    /// All of them carry the error that one of the inputs carries, what the op refuses, or [`Error::Value`] if it has another
    /// number of results.
    #[track_caller]
    pub fn apply_many<const N: usize>(op: impl Op, inputs: &[&Tensor]) -> [Tensor; N] {
        let (at, name) = (Location::caller(), op.name());
        let first = Tensor::apply(op, inputs);
        let results = first.results();
        if first.error().is_some() || results.len() == N {
            return std::array::from_fn(|k| results.get(k).unwrap_or(&first).clone());
        }
        let problem = Problem::Value(format!("it has {} results, not {N}", results.len()), "take as many as there are");
        let invalid = Tensor::invalid(first.device(), problem.at(name, at), at);
        std::array::from_fn(|_| invalid.clone())
    }

    /// All results of the op that this tensor is a result of; this tensor alone if its op has one result, or if it has let go
    /// of what it was computed from.
    pub fn results(&self) -> Vec<Tensor> {
        let op = match self.node.source {
            Source::Result { .. } => self.node.inputs().first().cloned(),
            _ => None,
        };
        let Some(op) = op else { return vec![self.clone()] };
        (0..op.result_metas().len()).map(|number| Tensor::of_result(&op, number)).collect()
    }

    // Of any op: compiled once, not for each.
    pub(crate) fn record(
        device: &Device,
        op: Arc<dyn Op>,
        inputs: &[&Tensor],
        at: &'static Location<'static>,
    ) -> Tensor {
        let _span = device.span(Phase::Record, op.name());
        for input in inputs {
            if input.node.error().is_some() {
                return (*input).clone();
            }
            if !input.node.device.same(device) {
                let [left, right] = [device, &input.node.device].map(|d| d.name().to_string());
                return Tensor::invalid(device, Error::Device { op: op.name(), at, left, right }, at);
            }
        }
        if let Some(wide) = widened(&*op, inputs) {
            return Tensor::record(device, op, &wide.iter().collect::<Vec<_>>(), at);
        }
        let mut metas = [Meta { shape: Shape::SCALAR, dtype: DType::F32 }; 4];
        let many: Vec<Meta>;
        let metas = if inputs.len() <= metas.len() {
            for (meta, input) in metas.iter_mut().zip(inputs) {
                *meta = input.node.meta;
            }
            &metas[..inputs.len()]
        } else {
            many = inputs.iter().map(|input| input.node.meta).collect();
            &many[..]
        };
        let results = match op.shape(metas) {
            Ok(results) => results,
            Err(problem) => return Tensor::invalid(device, problem.at(op.name(), at), at),
        };
        let Some(&meta) = results.first() else {
            let problem = Problem::Value("its rule of shape gives no result".into(), "give one or more");
            return Tensor::invalid(device, problem.at(op.name(), at), at);
        };
        if let Some(empty) = results.iter().find(|meta| meta.elements() == 0) {
            let what = format!("the result, of shape {}, has no elements", empty.shape);
            let problem = Problem::Shape(what, "leave out empty batches and axes of length 0");
            return Tensor::invalid(device, problem.at(op.name(), at), at);
        }
        let requires_grad = results.iter().any(|meta| meta.dtype.is_float())
            && records_gradients()
            && inputs.iter().any(|input| input.node.requires_grad);
        let flow = if requires_grad { Flow::Through } else { Flow::Nothing };
        let inputs = inputs.iter().map(|input| input.node.clone()).collect();
        let node = Node::new(device, meta, Source::Op(op), inputs, flow, at).with_results(&results);
        Tensor::of_result(&Arc::new(node), 0)
    }

    /// Result `number` of the op of a node, for a user.
    fn of_result(op: &Arc<Node>, number: usize) -> Tensor {
        // Held before an update by another thread can look at it.
        let tensor = Tensor::from_node(op.result(number));
        for store in &tensor.node.stores {
            store.remember(&tensor.node);
        }
        tensor
    }

    /// Axis lengths.
    ///
    /// # Errors
    /// The error that the tensor carries: an invalid tensor has no shape.
    pub fn shape(&self) -> Result<&[usize]> {
        match self.node.error() {
            Some(error) => Err(error.clone()),
            None => Ok(&self.node.meta.shape),
        }
    }

    /// Element type.
    ///
    /// # Errors
    /// The error that the tensor carries.
    pub fn dtype(&self) -> Result<DType> {
        match self.node.error() {
            Some(error) => Err(error.clone()),
            None => Ok(self.node.meta.dtype),
        }
    }

    /// The device it lives on.
    pub fn device(&self) -> &Device {
        &self.node.device
    }

    /// The error that the tensor carries, if it came from an invalid op.
    pub fn error(&self) -> Option<&Error> {
        self.node.error()
    }

    /// True if gradients flow through it.
    pub fn requires_grad(&self) -> bool {
        self.node.requires_grad
    }

    /// A node that computes what `node` does, from other inputs. Nodes without an op are returned as they are.
    pub(crate) fn again(node: &Arc<Node>, inputs: Vec<Arc<Node>>) -> Arc<Node> {
        let source = match (&node.source, inputs.first()) {
            (Source::Op(op), _) => Source::Op(op.clone()),
            (Source::Result { number, .. }, Some(op)) => return op.result(*number),
            _ => return node.clone(),
        };
        let again = Node::new(&node.device, node.meta, source, inputs.into(), node.flow(), node.at);
        Arc::new(again.with_results(&node.result_metas()))
    }

    pub(crate) fn meta(&self) -> Meta {
        self.node.meta
    }

    /// Least and largest element of an integer upload, for checks while recording; `None` for what a device computes.
    pub(crate) fn known_range(&self) -> Option<(i64, i64)> {
        let Source::Upload { data, largest, .. } = &self.node.source else { return None };
        match (&**data, largest) {
            (HostData::U32(_), Some(largest)) => Some((0, i64::from(*largest))),
            (HostData::U32(values), None) => values.iter().max().map(|&largest| (0, i64::from(largest))),
            (HostData::I32(values), _) => {
                values.iter().min().zip(values.iter().max()).map(|(&a, &b)| (i64::from(a), i64::from(b)))
            }
            _ => None,
        }
    }

    /// Shape for internal use: of no meaning for an error tensor, which passes through ops anyway.
    pub(crate) fn dims(&self) -> &Shape {
        &self.node.meta.shape
    }

    /// An invalid tensor in place of the result of a method on this one.
    #[track_caller]
    pub(crate) fn problem(&self, op: &'static str, problem: Problem) -> Tensor {
        match self.node.error() {
            Some(_) => self.clone(),
            None => Tensor::invalid(&self.node.device, problem.at(op, Location::caller()), Location::caller()),
        }
    }
}

impl fmt::Debug for Tensor {
    /// Shape, dtype, device and what it is; the elements too where they are few and already on the host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = &self.node;
        if let Some(error) = node.error() {
            return write!(f, "Tensor(invalid: {error})");
        }
        write!(f, "Tensor({:?} {} on {}, {}", node.meta.shape, node.meta.dtype, node.device.name(), node.name())?;
        if node.requires_grad {
            f.write_str(", requires grad")?;
        }
        let known = match (&node.source, node.value()) {
            (Source::Upload { data, .. }, _) => Some(data.clone()),
            (_, Some(Value::Cpu(array))) => Some(Arc::new(HostData::F64(array.data.clone()))),
            _ => None,
        };
        match known {
            Some(data) if data.len() <= 16 => write!(f, ", {:?})", data.to_f64()),
            Some(_) => f.write_str(", computed)"),
            None => f.write_str(", not computed yet)"),
        }
    }
}
