//! Dynamic loss scaling (Micikevicius et al. 2018, "Mixed precision training", with the schedule of
//! `torch.amp.GradScaler`), wholly on the device.
//!
//! The backward pass starts from the scale, which is read from memory; the factor that clips gradients also divides by it.
//! Where a scaled gradient is not finite the update is skipped and the scale is lowered. Only the device knows then how
//! many updates a parameter has had, so it counts them, and forms the factors that depend on the count.

use std::panic::Location;
use std::sync::Arc;

use super::{Correction, check_number};
use crate::device::{Arena, Device};
use crate::dtype::DType;
use crate::engine::ArenaKernel;
use crate::error::Result;
use crate::graph::{Node, ParameterLeaf, Source};
use crate::history::Flow;
use crate::kernel::Kernel;
use crate::ops::{Meta, Problem};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// How the factor of the loss follows the gradients. The defaults are those of `torch.amp.GradScaler`, which has no floor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    /// The factor at the start.
    pub initial: f64,
    /// What it is multiplied by after [`LossScale::interval`] good steps in a row.
    pub growth: f64,
    /// What it is multiplied by where a gradient is not finite; that step's update is skipped.
    pub backoff: f64,
    /// Good steps before it grows.
    pub interval: u32,
    /// Where it would sink below this the step is an error: it is not for their size that gradients are not finite.
    pub floor: f64,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { initial: 65_536.0, growth: 2.0, backoff: 0.5, interval: 2000, floor: 1.0 / 16_384.0 }
    }
}

impl LossScale {
    pub(super) fn check(&self) -> Result<(), Problem> {
        check_number("the loss scale", self.initial)?;
        check_number("the growth of the loss scale", self.growth)?;
        check_number("the floor of the loss scale", self.floor)?;
        let sound = self.growth >= 1.0
            && self.backoff > 0.0
            && self.backoff < 1.0
            && self.interval > 0
            // The device keeps the scale in f32.
            && self.floor as f32 >= f32::MIN_POSITIVE
            && self.initial >= self.floor;
        if sound && self.initial as f32 <= f32::MAX {
            return Ok(());
        }
        let next = "a growth of at least 1, a backoff between 0 and 1, an interval, and a floor from 1.2e-38 to the initial scale";
        Err(Problem::Value(format!("{self:?}"), next))
    }
}

/// Operand words of a scaled step before the factors of its groups.
pub(super) const HEAD: usize = 12;
/// A number of updates after which no factor changes.
pub(super) const SETTLED: u64 = 1 << 60;

/// The state of loss scaling on the device.
pub(super) struct Scaler {
    pub settings: LossScale,
    /// (scale, good steps since it changed).
    pub state: Arc<Arena>,
    /// Updates of each parameter so far.
    pub counts: Arc<Arena>,
    /// Factors of each parameter for this step.
    pub factors: Arc<Arena>,
    /// The scale as a leaf of the graph.
    pub leaf: Tensor,
}

impl Scaler {
    /// Scaling for parameters with these counts of updates.
    pub fn new(device: &Device, settings: LossScale, updates: &[u64]) -> Result<Scaler> {
        let state = device.arena("loss scale".into(), 64)?;
        state.write(device, 0, &[settings.initial, 0.0])?;
        let (counts, factors) = arenas(device, updates.len())?;
        let leaf = ParameterLeaf {
            arena: state.clone(),
            offset: 0,
            version: 0,
            store: Arc::default(),
            name: "loss scale".into(),
        };
        let meta = Meta { shape: Shape::SCALAR, dtype: DType::F32 };
        let node = Node::new(device, meta, Source::Parameter(leaf), vec![], Flow::Nothing, Location::caller());
        let scaler = Scaler { settings, state, counts, factors, leaf: Tensor::from_node(Arc::new(node)) };
        scaler.write_counts(device, updates)?;
        Ok(scaler)
    }

    /// Makes room for parameters that were added.
    pub fn fit(&mut self, device: &Device, parameters: usize) -> Result<()> {
        if parameters > self.counts.elements {
            let old = self.counts.read(device, 0, self.counts.elements)?;
            (self.counts, self.factors) = arenas(device, parameters)?;
            self.counts.write(device, 0, &old)?;
        }
        Ok(())
    }

    /// Updates of each parameter so far. Waits for the device.
    pub fn counts(&self, device: &Device, parameters: usize) -> Result<Vec<u64>> {
        let known = self.counts.read(device, 0, parameters.min(self.counts.elements))?;
        Ok((0..parameters).map(|number| known.get(number).map_or(0, |&count| count as u64)).collect())
    }

    pub fn write_counts(&self, device: &Device, updates: &[u64]) -> Result<()> {
        let counts: Vec<f64> = updates.iter().map(|&count| count as f64).collect();
        self.counts.write(device, 0, &counts)
    }

    /// Host numbers of a step: the largest norm (0: no clipping), the settings, the constants of the rule's correction.
    pub fn head(&self, largest: f64, correction: &Correction) -> [f64; HEAD] {
        let LossScale { growth, backoff, interval, floor, .. } = self.settings;
        let [a, b, c, d] = correction.constants;
        [largest, growth, backoff, f64::from(interval), floor, 0.0, 0.0, 0.0, a, b, c, d]
    }

    /// The kernel that turns partial norms into the status, and the settings in the operands from `word` on into factors.
    /// `members` has the group, from 1, of each parameter that is updated, else 0.
    pub fn status(
        &self,
        (count, word): (usize, usize),
        partials: &Arc<Arena>,
        status: &Arc<Arena>,
        members: &Arc<Arena>,
        correction: &Correction,
    ) -> ArenaKernel {
        let text = format!("{}{}", correction.wgsl, include_str!("../../shaders/scale_status.wgsl"));
        let mut kernel = Kernel::own("scale_status", text);
        kernel.params = vec![count as u32, word as u32, members.elements as u32, 0];
        kernel.iterations = (count.div_ceil(64) + members.elements.div_ceil(64) * 12) as u64;
        let read = |arena: &Arc<Arena>| (arena.into(), false);
        let write = |arena: &Arc<Arena>| (arena.into(), true);
        let arenas = vec![
            read(partials),
            write(status),
            write(&self.state),
            write(&self.counts),
            read(members),
            write(&self.factors),
        ];
        ArenaKernel { kernel, arenas }
    }

    /// The same in f64 for gradients of this norm, scaled: the status (norm, factor of the gradients, 1 if the update is
    /// skipped, 2 if that is an error), with the scale changed.
    pub fn reference(&self, scaled: f64, largest: Option<f64>) -> Result<[f64; 4]> {
        let LossScale { growth, backoff, interval, floor, .. } = self.settings;
        let mut state = self.state.cpu()?;
        let scale = state[0];
        let norm = scaled / scale;
        let clip = super::clip::factor(largest, norm);
        if scaled.is_finite() {
            state[1] += 1.0;
            if state[1] >= f64::from(interval) {
                state[1] = 0.0;
                if scale * growth <= f64::from(f32::MAX) {
                    state[0] = scale * growth;
                }
            }
            return Ok([norm, clip / scale, 0.0, 0.0]);
        }
        state[1] = 0.0;
        if scale * backoff < floor {
            return Ok([norm, floor, 1.0, 2.0]);
        }
        state[0] = scale * backoff;
        Ok([norm, 0.0, 1.0, 0.0])
    }
}

fn arenas(device: &Device, parameters: usize) -> Result<(Arc<Arena>, Arc<Arena>)> {
    let room = parameters.max(1).next_multiple_of(64);
    Ok((device.arena("counts of updates".into(), room)?, device.arena("factors".into(), 8 * room)?))
}
