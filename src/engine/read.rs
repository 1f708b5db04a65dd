//! Reading: `Tensor::to_vec` and its kin, which run what is recorded, and `Device::eval`, which does not wait for it.

use std::panic::Location;
use std::sync::Arc;

use super::compute::{evaluate, take_failure, wanted};
use crate::array::Array;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::graph::{Node, ParameterLeaf, Snapshot, Source, Value};
use crate::host::{Element, HostData};
use crate::kernel::Capabilities;
use crate::plan::{self, Destination, Plan, Request};
use crate::target::Target;
use crate::tensor::{Tensor, outside_rules};
use crate::wait;

impl Device {
    /// Runs what these tensors need in one submission, without waiting for it.
    ///
    /// # Errors
    /// The error that one of them carries, or what running them met.
    pub fn eval(&self, tensors: &[&Tensor]) -> Result<()> {
        if let Some(error) = tensors.iter().find_map(|tensor| tensor.error()) {
            return Err(error.clone());
        }
        let roots: Vec<Arc<Node>> =
            tensors.iter().map(|tensor| tensor.node().clone()).filter(|node| !node.has_value()).collect();
        if roots.is_empty() { Ok(()) } else { evaluate(self, &roots) }
    }

    /// The plan that running these tensors would take on a device with `capabilities`: what is fused, what is stored,
    /// in which order. It prints as one line a dispatch.
    ///
    /// # Errors
    /// The error that one of them carries, or what planning met.
    pub fn plan_for(&self, tensors: &[&Tensor], capabilities: &Capabilities, fusion: bool) -> Result<Plan> {
        let target = Target { capabilities: capabilities.clone(), ..Target::default() };
        self.plan_with(tensors, &target, fusion)
    }

    /// [`Device::plan_for`], with variants forced or chosen.
    #[doc(hidden)]
    pub fn plan_with(&self, tensors: &[&Tensor], target: &Target, fusion: bool) -> Result<Plan> {
        let roots: Vec<Arc<Node>> = tensors.iter().map(|tensor| tensor.node().clone()).collect();
        let snapshot = Snapshot::collect(&roots, None)?;
        let outputs = wanted(&snapshot, 0, |node| !node.has_value());
        plan::build(&Request {
            snapshot: &snapshot,
            outputs: outputs.into_iter().map(|i| (i, Destination::Value)).collect(),
            target,
            fusion,
            scalars: 0,
        })
    }

    /// The plan of the last run: its dispatches with their names and whole shader texts, and as text a line for each. `None`
    /// before the first run, and on the reference, which runs no kernels.
    ///
    /// ```
    /// # fn main() -> kiln::Result<()> {
    /// # use kiln::prelude::*;
    /// let device = Device::best()?;
    /// (device.ones(&[4, 4]) + 1.0).softmax(1).to_vec::<f32>()?;
    /// for dispatch in device.last_plan().iter().flat_map(|plan| &plan.dispatches) {
    ///     println!("// {}\n{}", dispatch.name(), dispatch.source());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_plan(&self) -> Option<Plan> {
        let engine = self.engine();
        let last = engine.plans.values().flatten().max_by_key(|entry| entry.used)?;
        Some(last.compiled.plan.clone())
    }
}

impl Tensor {
    /// All elements, row-major. Runs what is recorded, and waits for it.
    ///
    /// f64 reads any dtype; whole numbers of other widths read i32 and u32, and bf16 reads f32, where they hold what is there. Else `T` is
    /// the dtype's own type.
    ///
    /// # Errors
    /// The error that the tensor carries, [`Error::DType`] if `T` does not read its dtype, [`Error::Value`] for an element that `T` does
    /// not hold, or what running it met.
    #[track_caller]
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        let at = Location::caller();
        self.check_dtype::<T>(at)?;
        let data = wait::instead("Tensor::to_vec", "Tensor::to_vec_async", read(self.node()))?;
        unpack(&data, at)
    }

    /// [`Tensor::to_vec`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn to_vec_async<T: Element>(&self) -> impl Future<Output = Result<Vec<T>>> + use<T> {
        let at = Location::caller();
        let checked = self.check_dtype::<T>(at);
        let tensor = self.clone();
        async move {
            checked?;
            let data = wait::unblocked(|| read(tensor.node())).await?;
            unpack(&data, at)
        }
    }

    fn check_dtype<T: Element>(&self, at: &'static Location<'static>) -> Result<()> {
        let dtype = self.dtype()?;
        if T::reads(dtype) {
            return Ok(());
        }
        Err(Error::DType { op: "to_vec", at, what: format!("the tensor holds {dtype}, not {}", T::NAME) })
    }

    /// The only element, of any dtype, as f64. Runs what is recorded, and waits for it.
    ///
    /// # Errors
    /// [`Error::Shape`] unless there is exactly one element; else as [`Tensor::to_vec`].
    #[track_caller]
    pub fn item(&self) -> Result<f64> {
        self.check_single(Location::caller())?;
        Ok(wait::instead("Tensor::item", "Tensor::item_async", read(self.node()))?.get(0))
    }

    /// [`Tensor::item`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Tensor::item`].
    #[track_caller]
    pub fn item_async(&self) -> impl Future<Output = Result<f64>> + use<> {
        let checked = self.check_single(Location::caller());
        let tensor = self.clone();
        async move {
            checked?;
            Ok(wait::unblocked(|| read(tensor.node())).await?.get(0))
        }
    }

    fn check_single(&self, at: &'static Location<'static>) -> Result<()> {
        let shape = self.shape()?;
        if shape.iter().product::<usize>() == 1 {
            return Ok(());
        }
        let what = format!("a tensor of shape {shape:?} has not one element");
        Err(Error::Shape { op: "item", at, what, next: "use to_vec, or reduce it first" })
    }

    /// All elements as an f64 host array.
    ///
    /// # Errors
    /// The error that the tensor carries, or what running it met.
    pub fn to_array(&self) -> Result<Array> {
        let shape = *self.dims();
        let data = wait::instead("Tensor::to_array", "Tensor::to_array_async", read(self.node()))?;
        Ok(Array { shape, dtype: self.meta().dtype, data: data.to_f64() })
    }

    /// [`Tensor::to_array`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Tensor::to_array`].
    pub fn to_array_async(&self) -> impl Future<Output = Result<Array>> + use<> {
        let tensor = self.clone();
        async move { wait::unblocked(|| tensor.to_array()).await }
    }
}

fn unpack<T: Element>(data: &HostData, at: &'static Location<'static>) -> Result<Vec<T>> {
    T::unpack(data).map_err(|place| {
        let what = format!("element {place}, {}, is no {}", data.get(place), T::NAME);
        Error::Value { op: "to_vec", at, what, next: "read it as f64, or change it first" }
    })
}

/// The elements of a node, run if needed.
pub(crate) fn read(node: &Arc<Node>) -> Result<Arc<HostData>> {
    if let Some(error) = node.error() {
        return Err(error.clone());
    }
    outside_rules("read", node.at)?;
    let device = &node.device;
    if !node.has_value() {
        match &node.source {
            Source::Upload { data, .. } => return Ok(data.clone()),
            Source::Parameter(leaf) => match read_parameter(node, leaf)? {
                Some(data) => return Ok(Arc::new(data)),
                None => evaluate(device, std::slice::from_ref(node))?,
            },
            _ => evaluate(device, std::slice::from_ref(node))?,
        }
    }
    match node.value() {
        Some(Value::Cpu(array)) => {
            take_failure(&node.stores)?;
            Ok(Arc::new(HostData::F64(array.data.clone())))
        }
        Some(Value::Gpu(value)) => {
            let Some(gpu) = device.gpu() else {
                return Err(Error::internal("a GPU value on the reference device"));
            };
            let data = device.with_room(gpu, || gpu.read_value(&value, true))?;
            settle(node)?;
            data.map(Arc::new).ok_or_else(|| Error::internal("a read gave nothing"))
        }
        None => Err(Error::internal("a run left its root without a value")),
    }
}

/// The elements of a node that a run has computed, whatever became of the steps before.
pub(crate) fn computed(node: &Node) -> Result<HostData> {
    match (node.value(), node.device.gpu(), &node.source) {
        (Some(Value::Cpu(array)), ..) => Ok(HostData::F64(array.data.clone())),
        (Some(Value::Gpu(value)), Some(gpu), _) => {
            let data = node.device.with_room(gpu, || gpu.read_value(&value, true))?;
            data.ok_or_else(|| Error::internal("a read gave nothing"))
        }
        (None, _, Source::Upload { data, .. }) => Ok(HostData::clone(data)),
        _ => Err(Error::internal("a value was wanted that no run has computed")),
    }
}

/// Takes what finished steps have reported, each to its own store.
pub(crate) fn hear(device: &Device) -> Result<()> {
    device.backend().pace()?;
    device.engine().report();
    Ok(())
}

/// The present values of a parameter, if they are those of the leaf.
fn read_parameter(node: &Node, leaf: &ParameterLeaf) -> Result<Option<HostData>> {
    take_failure(&node.stores)?;
    let gate = leaf.store.enter();
    if leaf.is_stale() || node.has_value() {
        return Ok(None);
    }
    let values = leaf.arena.read(leaf.offset, node.meta.elements())?;
    drop(gate);
    settle(node)?;
    Ok(Some(match node.device.is_exact() {
        true => HostData::F64(values),
        false => HostData::F32(values.iter().map(|&x| x as f32).collect()),
    }))
}

/// Collects the reports of finished steps and returns the failure of one that `node` is concerned with.
fn settle(node: &Node) -> Result<()> {
    node.device.engine().report();
    take_failure(&node.stores)
}
