//! The backward pass of a loss that goes through batch normalisation over ranks: it stops at each such layer until the ranks
//! have joined their sums.
//!
//! It is recorded here and run in parts, and ends as gradients that are given: what the engine plans as one step, it cannot
//! stop within. Values that a later part needs are kept, so little is computed twice.

use std::panic::Location;
use std::sync::Arc;

use super::stepper::Stepper;
use crate::autograd;
use crate::distributed::World;
use crate::engine;
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::op::Backward;
use crate::ops::batch_norm::BatchNormOfRanks;
use crate::tensor::Tensor;

impl<R: ?Sized + Send + Sync> Stepper<R> {
    /// For each parameter its gradient, if the backward pass meets other ranks on its way; `None` if it does not.
    #[track_caller]
    pub(super) fn gradients_over_ranks(&mut self, loss: &Tensor) -> Result<Option<Vec<Option<Arc<Node>>>>> {
        let world = match &self.together {
            Some(together) if together.world.joins() && !together.world.is_alone() => together.world.clone(),
            _ => return Ok(None),
        };
        if let Some(error) = loss.error() {
            return Err(error.clone());
        }
        if !autograd::is_over_ranks(loss)? {
            return Ok(None);
        }
        autograd::check_scalar(loss, Location::caller())?;
        // On all ranks alike, before they meet: the layers have heard of it forward.
        self.store.state().take_failure()?;
        self.prepare()?;
        let (leaves, layout) = (self.store.leaves()?, self.store.layout()?);
        let trained: Vec<usize> = (0..leaves.len()).filter(|&number| !layout[number].frozen).collect();
        let targets: Vec<Arc<Node>> = trained.iter().map(|&number| leaves[number].clone()).collect();
        let seed = self.tally.as_ref().and_then(|tally| tally.scaling.map(|_| tally.leaf.clone()));
        let gradients = autograd::backward_over(loss, seed, &targets, &mut |op, seen, so_far| {
            let op = BatchNormOfRanks::of(op).ok_or_else(|| Error::internal("an op of ranks of another kind"))?;
            let own = op.sums(seen);
            // With what is there of the gradients: what they are made of is then there, too.
            let mut roots = vec![own.node().clone(), seen.grad.node().clone(), loss.node().clone()];
            roots.extend(so_far.iter().map(|gradient| gradient.node().clone()));
            join(&world, op, seen, &own, &roots)
        })?;
        let mut given = vec![None; leaves.len()];
        for (number, gradient) in trained.into_iter().zip(gradients) {
            given[number] = gradient.map(|gradient| gradient.node().clone());
        }
        Ok(Some(given))
    }
}

/// Runs the pass as far as `roots`, and goes on with the sums of all ranks.
fn join(
    world: &World,
    op: &BatchNormOfRanks,
    seen: &Backward<'_>,
    own: &Tensor,
    roots: &[Arc<Node>],
) -> Result<Vec<Option<Tensor>>> {
    if let Some(error) = own.error() {
        return Err(error.clone());
    }
    let device = own.device();
    let (x, channels) = (&seen.inputs[0], own.dims()[1]);
    if !seen.needs[0] {
        return Ok(op.gradients(seen, own, own));
    }
    device.compute(roots)?;
    let count = (x.dims().elements() / channels) as f64;
    let (all, sums) = world.join_sums(count, channels, &engine::computed(own.node())?.to_f64())?;
    let shares: Vec<f32> = sums.iter().map(|sum| (sum * count / all) as f32).collect();
    Ok(op.gradients(seen, own, &device.tensor(&shares, &[2, channels])))
}
