//! What a device tells about itself: plans, counts, and the switches of tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{evaluate, wanted};
use crate::device::{Backend, Device};
use crate::error::Result;
use crate::graph::{Node, Snapshot};
use crate::kernel::Capabilities;
use crate::plan::{self, Destination, Plan, Request};
use crate::target::Target;
use crate::tensor::Tensor;

impl Device {
    /// Drops every cached plan. For tests that compare a fresh plan with a cached one.
    #[doc(hidden)]
    pub fn forget_plans(&self) {
        self.engine().forget_plans();
    }

    /// Gives every op a kernel of its own: the test mode that fused plans are held to.
    #[doc(hidden)]
    pub fn set_fusion(&self, enabled: bool) {
        self.engine().unfused = !enabled;
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
    ///     println!("// {}\n{}", dispatch.name, dispatch.source);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_plan(&self) -> Option<Plan> {
        let engine = self.engine();
        let last = engine.plans.values().flatten().max_by_key(|entry| entry.used)?;
        Some(last.compiled.plan.clone())
    }

    /// The kernels that tuning chose, by class of shapes, and whose they are (adapter, driver, version): what a resumed run
    /// must keep. `None` on the reference.
    pub(crate) fn kernel_choices(&self) -> Option<(String, BTreeMap<String, String>)> {
        match self.backend() {
            Backend::Gpu(gpu) => Some(gpu.choices()),
            Backend::Cpu => None,
        }
    }

    /// Takes the choices of a checkpoint for the plans to come, if they are of this adapter and driver.
    pub(crate) fn adopt_kernel_choices(&self, owner: &str, choices: &BTreeMap<String, String>) {
        if let Backend::Gpu(gpu) = self.backend()
            && gpu.adopt_choices(owner, choices)
        {
            self.engine().forget_plans();
        }
    }

    /// Driver objects made so far by the device: (buffers, bind groups, pipelines). A cached step makes none.
    pub fn objects_made(&self) -> [u64; 3] {
        match self.backend() {
            Backend::Gpu(gpu) => gpu.made(),
            Backend::Cpu => [0; 3],
        }
    }

    /// The driver library's own counts of live (buffers, bind groups, compute pipelines, shader modules); zeros
    /// without the `counters` feature.
    #[doc(hidden)]
    pub fn driver_counters(&self) -> [isize; 4] {
        match self.backend() {
            Backend::Gpu(gpu) => gpu.driver_counters(),
            Backend::Cpu => [0; 4],
        }
    }

    /// Fills every scratch buffer and every result buffer that nobody holds with NaN, so that a kernel that leaves an
    /// element unwritten shows. For tests.
    #[doc(hidden)]
    pub fn poison_buffers(&self) -> Result<()> {
        let engine = self.engine();
        let Backend::Gpu(gpu) = self.backend() else { return Ok(()) };
        gpu.poison(engine.plans.values().flatten().map(|entry| &entry.compiled))
    }

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
}
