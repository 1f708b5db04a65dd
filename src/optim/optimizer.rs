//! What every optimizer does, whatever its rules.

use std::sync::Arc;

use super::state::{OptimizerState, StateInPlace, StateTensors, with_tensors};
use crate::distributed::World;
use crate::error::{Error, Result};
use crate::graph::Node;
use crate::params::{Param, ParamStore};
use crate::tensor::Tensor;
use crate::wait::{self, Waiting};

/// What a training loop does with any optimizer.
pub trait Optimizer {
    /// Backward pass of `loss`, clipping and update, in one submission and without waiting.
    ///
    /// # Errors
    /// The error that the loss carries, [`Error::Shape`](crate::Error::Shape) unless it is one float, [`Error::Value`](crate::Error::Value) if no parameter that is
    /// not frozen would get a gradient, [`Error::NonFinite`](crate::Error::NonFinite) of an earlier step of this store whose update was skipped (this
    /// step is then not done), [`Error::LossScale`](crate::Error::LossScale) where the loss scale would have sunk below its floor, or what the device
    /// refuses.
    ///
    /// A step that is refused for what is not finite leaves no trace: parameters, moments, counts of updates and the
    /// assignments to states are those from before it, also for the steps that were under way behind it.
    fn step(&mut self, loss: &Tensor) -> Result<()>;
    /// Adds the gradients of `loss` to what the next [`Optimizer::step`] uses. Scale the losses of micro-batches so that
    /// their sum is the loss of the batch.
    ///
    /// # Errors
    /// As [`Optimizer::step`].
    fn accumulate(&mut self, loss: &Tensor) -> Result<()>;
    /// The update alone, with gradients that you bring: those of [`Tensor::gradients`], changed as you like, or others.
    ///
    /// What is recorded is computed in the same submission. Gradients are clipped and checked as in [`Optimizer::step`],
    /// and added to what [`Optimizer::accumulate`] has gathered; parameters that have none are left alone, frozen ones
    /// too. A gradient whose tensor you keep is stored for you; one that is moved in goes straight into the update.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # let device = Device::cpu();
    /// # let params = ParamStore::new(&device, 1);
    /// let weight = params.root().param("weight", &[3], Init::Ones);
    /// let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() });
    /// let x = weight.tensor();
    /// let gradient = (&x * &x).sum_all().gradients(&[&x])?.remove(0);
    /// sgd.step_with(vec![(weight.clone(), gradient.clamp(-1.0, 1.0))])?;
    /// assert_eq!(weight.values()?, [0.5; 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a parameter of another store, one that is named twice, or if there is nothing to update with,
    /// [`Error::Shape`](crate::Error::Shape) or [`Error::DType`](crate::Error::DType)
    /// unless each gradient is f32 of its parameter's shape, the error that a gradient carries; else as
    /// [`Optimizer::step`].
    fn step_with(&mut self, gradients: Vec<(Param, Tensor)>) -> Result<()>;
    /// Takes steps together with the other ranks of `world` from now on: what [`Stepper::distributed`](super::Stepper::distributed) does.
    ///
    /// # Errors
    /// [`Error::Rank`](crate::Error::Rank): what went wrong among the ranks, or that this optimizer cannot do so.
    fn distribute(&mut self, world: &World) -> Result<()> {
        match world.is_alone() {
            true => Ok(()),
            false => Err(Error::Rank {
                rank: world.rank(),
                what: "this optimizer takes no steps with other ranks".into(),
                next: "take one of Kiln's rules, or implement `Optimizer::distribute`",
            }),
        }
    }
    /// The learning rate.
    fn lr(&self) -> f64;
    /// Changes the learning rate from the next step on.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for one that is negative or not finite, while a schedule gives the rate, or if there are several
    /// rules.
    fn set_lr(&mut self, lr: f64) -> Result<()>;
    /// Number of steps so far. One that was refused ([`Error::NonFinite`](crate::Error::NonFinite), [`Error::LossScale`](crate::Error::LossScale)) is none, from the moment
    /// that the host has learnt of it; one that loss scaling skipped without an error is one.
    fn steps(&self) -> u64;
    /// The norm of all gradients at the last step, before clipping. Waits for the device.
    ///
    /// # Errors
    /// What reading it met.
    fn gradient_norm(&self) -> Result<f64>;
    /// The factor that the next loss is multiplied by; `None` without loss scaling. Waits for the device.
    ///
    /// # Errors
    /// What reading it met.
    fn loss_scale(&self) -> Result<Option<f64>>;
    /// [`Optimizer::gradient_norm`] without blocking the thread.
    fn gradient_norm_async(&self) -> Waiting<'_, f64> {
        Box::pin(wait::unblocked(|| self.gradient_norm()))
    }
    /// [`Optimizer::loss_scale`] without blocking the thread.
    fn loss_scale_async(&self) -> Waiting<'_, Option<f64>> {
        Box::pin(wait::unblocked(|| self.loss_scale()))
    }
    /// [`Optimizer::state`] without blocking the thread; an error if steps go on meanwhile.
    fn state_async(&self) -> Waiting<'_, OptimizerState> {
        Box::pin(wait::consistent(|| self.store().state().version(), || self.state()))
    }
    /// The parameters.
    fn store(&self) -> &ParamStore;
    /// Everything that a resumed run needs, on the host. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) between [`Optimizer::accumulate`] and [`Optimizer::step`], [`Error::NonFinite`](crate::Error::NonFinite) of an earlier step,
    /// or what reading met.
    fn state(&self) -> Result<OptimizerState>;
    /// Continues from [`Optimizer::state`]. What steps before it have still to report, that a gradient was not finite, is
    /// forgotten with them.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if it is another optimizer's or another model's, has what this one does not keep, or what no
    /// run can have left there: a learning rate or a moment that is not finite, a negative mean of squares. Nothing has
    /// changed then.
    fn set_state(&mut self, state: &OptimizerState) -> Result<()>;
    /// [`Optimizer::state`] with the tensors left where they are, for checkpoints.
    #[doc(hidden)]
    fn state_in_place(&self) -> Result<StateInPlace> {
        self.state().map(StateInPlace::on_host)
    }
    /// What [`Optimizer::set_state_packed`] would refuse; nothing of the state changes. For checkpoints, all of whose
    /// parts are checked before the first is written.
    ///
    /// # Errors
    /// As [`Optimizer::set_state`].
    #[doc(hidden)]
    fn check_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        // An optimizer of a program's own is made to take it, and given back what it had.
        let before = self.state()?;
        self.set_state(&with_tensors(state, tensors))?;
        self.set_state(&before)
    }
    /// [`Optimizer::set_state`] with tensors from a file, for checkpoints.
    #[doc(hidden)]
    fn set_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.set_state(&with_tensors(state, tensors))
    }
}

/// Where the gradients of a pass come from.
#[derive(Clone, Copy)]
pub(super) enum GradientSource<'a> {
    /// The backward pass of a loss.
    Loss(&'a Tensor),
    /// Given ones, a place for each parameter.
    Given(&'a [Option<Arc<Node>>]),
}
