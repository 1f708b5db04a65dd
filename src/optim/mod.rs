//! Optimizers: [`Sgd`] and [`AdamW`], one dispatch a parameter group.
//!
//! An optimizer is a [`Rule`] (its configuration: what it keeps for each scalar, its shader, its f64 form) run by a
//! [`Stepper`], which knows the store: gradients, clipping, groups, which parameters the loss reached, state. A rule of
//! your own needs no more than an `impl Rule`.
//!
//! Rates and factors are host numbers that travel with each step, so a schedule never makes a new plan. Parameters that
//! a loss does not reach, and frozen ones, are left alone: no decay, no moments. Each parameter counts its own updates,
//! as PyTorch's do, so that bias corrections are right for one that is reached late. The device counts them: a step that it
//! refuses, of which the host learns later, leaves no trace.

mod adamw;
mod clip;
mod given;
mod pass;
mod rule;
mod scale;
mod settings;
mod sgd;
mod state;
mod tally;

pub use adamw::AdamWConfig;
pub use rule::{Correction, Factors, Rule};
pub use scale::LossScale;
pub use settings::{GroupSettings, Settings};
pub use sgd::SgdConfig;
pub(crate) use state::InPlace;
pub use state::OptimizerState;
#[doc(hidden)]
pub use state::{StateInPlace, StateTensors};

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::arena::Arena;
use crate::costs::Costs;
use crate::dtype::Precision;
use crate::engine::{self, Author, Gradients};
use crate::error::{Error, Problem, Result};
use crate::graph::Node;
use crate::kernel::Capabilities;
use crate::params::{Chunk, Param, ParamStore};
use crate::plan::Plan;
use crate::target::Target;
use crate::tensor::Tensor;

use pass::Pass;
use settings::check_number;
use tally::Tally;

/// AdamW (Loshchilov and Hutter 2019), as PyTorch has it.
pub type AdamW = Stepper<AdamWConfig>;
/// Stochastic gradient descent with momentum, as PyTorch has it.
pub type Sgd = Stepper<SgdConfig>;

/// What a training loop does with any optimizer.
pub trait Optimizer {
    /// Backward pass of `loss`, clipping and update, in one submission and without waiting.
    ///
    /// # Errors
    /// The error that the loss carries, [`Error::Shape`] unless it is one float, [`Error::Value`] if no parameter that is
    /// not frozen would get a gradient, [`Error::NonFinite`] of an earlier step of this store whose update was skipped (this
    /// step is then not done), [`Error::LossScale`] where the loss scale would have sunk below its floor, or what the device
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
    /// [`Error::Value`] for a parameter of another store, one that is named twice, or if there is nothing to update with,
    /// [`Error::Shape`] or [`Error::DType`]
    /// unless each gradient is f32 of its parameter's shape, the error that a gradient carries; else as
    /// [`Optimizer::step`].
    fn step_with(&mut self, gradients: Vec<(Param, Tensor)>) -> Result<()>;
    /// The learning rate.
    fn lr(&self) -> f64;
    /// Changes the learning rate from the next step on.
    fn set_lr(&mut self, lr: f64);
    /// Number of steps so far. One that was refused ([`Error::NonFinite`], [`Error::LossScale`]) is none, from the moment
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
    /// The parameters.
    fn store(&self) -> &ParamStore;
    /// Everything that a resumed run needs, on the host. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Value`] between [`Optimizer::accumulate`] and [`Optimizer::step`], [`Error::NonFinite`] of an earlier step,
    /// or what reading met.
    fn state(&self) -> Result<OptimizerState>;
    /// Continues from [`Optimizer::state`]. What steps before it have still to report, that a gradient was not finite, is
    /// forgotten with them.
    ///
    /// # Errors
    /// [`Error::Value`] if it is another optimizer's or another model's, has what this one does not keep, or what no
    /// run can have left there: a learning rate or a moment that is not finite, a negative mean of squares. Nothing has
    /// changed then.
    fn set_state(&mut self, state: &OptimizerState) -> Result<()>;
    /// [`Optimizer::state`] with the tensors left where they are, for checkpoints.
    #[doc(hidden)]
    fn state_in_place(&self) -> Result<StateInPlace> {
        self.state().map(StateInPlace::on_host)
    }
    /// [`Optimizer::set_state`] with tensors from a file, for checkpoints.
    #[doc(hidden)]
    fn set_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.set_state(&state::with_tensors(state, tensors))
    }
}

/// Where the gradients of a pass come from.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// The backward pass of a loss.
    Loss(&'a Tensor),
    /// Given ones, a place for each parameter.
    Given(&'a [Option<Arc<Node>>]),
}

/// Runs a [`Rule`] over a [`ParamStore`].
pub struct Stepper<R: Rule> {
    rule: R,
    store: ParamStore,
    at: &'static Location<'static>,
    /// Steps submitted so far, refused ones included.
    submitted: u64,
    /// What steps under way report to.
    author: Arc<Author>,
    /// For each parameter a number that is equal for those that the same steps have updated.
    histories: Vec<usize>,
    /// For each parameter: whether the gradient arena holds a part of the next step's gradient.
    gathered: Vec<bool>,
    /// For each chunk of the store: its moments.
    moments: Vec<Vec<Arc<Arena>>>,
    /// Partial sums of the norm.
    partials: Option<Arc<Arena>>,
    /// As which kernels are cut up, if not as the device at hand.
    costs: Option<&'static Costs>,
    /// How losses are scaled: as chosen, else as the store's precision wants.
    scaling: Option<Option<LossScale>>,
    tally: Option<Tally>,
}

impl<R: Rule> Stepper<R> {
    /// An optimizer of all parameters of `store`, present and later ones. A setting that cannot be used is reported by
    /// the first step.
    #[track_caller]
    pub fn new(store: &ParamStore, config: R) -> Self {
        let at = Location::caller();
        Stepper {
            author: Arc::new(Author::new(store.state(), config.name(), at)),
            rule: config,
            store: store.clone(),
            at,
            submitted: 0,
            histories: vec![],
            gathered: vec![],
            moments: vec![],
            partials: None,
            costs: None,
            scaling: None,
            tally: None,
        }
    }

    /// With or without loss scaling, from the first step on. Where this is not called losses are scaled, by the defaults
    /// of [`LossScale`], if the store's precision is [`crate::Precision::Mixed`].
    ///
    /// A step whose scaled gradients are not finite is then no error: its update is skipped and the scale lowered.
    #[must_use]
    pub fn loss_scaling(mut self, scale: Option<LossScale>) -> Self {
        self.scaling = Some(scale);
        self
    }

    /// Takes the kernels of a hardware GPU on a software driver too. For tests.
    #[doc(hidden)]
    pub fn as_on_hardware(&mut self) {
        self.costs = Some(Costs::of_a_gpu());
    }

    /// Its configuration.
    pub fn config(&self) -> &R {
        &self.rule
    }

    fn refuse(&self, problem: Problem) -> Error {
        problem.at(self.rule.name(), self.at)
    }

    /// Makes the arenas that are missing.
    fn prepare(&mut self) -> Result<Vec<Chunk>> {
        self.rule.check().map_err(|problem| self.refuse(problem))?;
        let known = self.store.groups();
        for (name, settings) in self.rule.settings().groups {
            if !known.iter().any(|group| **group == **name) {
                let what = format!("settings for group `{name}`, which the store does not have");
                return Err(self.refuse(Problem::Value(what, "make the group with Path::group, or correct its name")));
            }
            let decay = settings.weight_decay.unwrap_or(0.0);
            check_number("lr_scale", settings.lr_scale).map_err(|problem| self.refuse(problem))?;
            check_number("weight_decay", decay).map_err(|problem| self.refuse(problem))?;
        }
        let chunks = self.store.chunks(true)?;
        let layout = self.store.layout()?;
        let device = self.store.device();
        while let Some(chunk) = chunks.get(self.moments.len()) {
            let arena = |name: &&str| {
                let label = format!("{name} of {}", known.get(chunk.group).map_or("", |name| name));
                device.arena(&label, chunk.values.elements)
            };
            self.moments.push(self.rule.moments().iter().map(arena).collect::<Result<_>>()?);
            self.partials = None;
        }
        if self.partials.is_none() {
            // One for each arena, and for each parameter whose gradient is read where it is.
            let ranges = chunks.iter().map(|chunk| chunk.values.elements);
            let count: usize =
                ranges.chain(layout.iter().map(|place| place.shape.elements())).map(clip::partials).sum();
            self.partials = Some(device.arena("partial norms", count.max(1) * 2)?);
        }
        let mixed = || (self.store.precision() == Precision::Mixed).then(LossScale::default);
        let scaling = self.scaling.unwrap_or_else(mixed);
        if let Some(settings) = scaling {
            settings.check().map_err(|problem| self.refuse(problem))?;
        }
        match &mut self.tally {
            Some(tally) => tally.fit(device, scaling, layout.len())?,
            None => self.tally = Some(Tally::new(device, scaling, layout.len())?),
        }
        self.gathered.resize(layout.len(), false);
        // Those that are new have a history of their own.
        let next = self.histories.iter().max().map_or(0, |last| last + 1);
        self.histories.resize(layout.len(), next);
        Ok(chunks)
    }

    /// What `run` makes of one pass.
    fn with_pass<T>(&mut self, update: bool, run: impl FnOnce(&Pass<'_, R>) -> Result<T>) -> Result<T> {
        let chunks = self.prepare()?;
        let layout = self.store.layout()?;
        let leaves = self.store.leaves()?;
        let missing = || Error::internal("an optimizer without its arenas");
        run(&Pass::new(pass::Parts {
            rule: &self.rule,
            store: &self.store,
            layout: &layout,
            chunks: &chunks,
            leaves: &leaves,
            histories: &self.histories,
            gathered: &self.gathered,
            moments: &self.moments,
            partials: self.partials.as_ref().ok_or_else(missing)?,
            number: self.submitted + 1,
            author: &self.author,
            update,
            costs: self.costs,
            tally: self.tally.as_ref().ok_or_else(missing)?,
        }))
    }

    /// One pass over the gradients of a loss, or over those given for each parameter.
    #[track_caller]
    fn pass(&mut self, source: Source<'_>, update: bool) -> Result<()> {
        let at = Location::caller();
        let device = match source {
            Source::Loss(loss) => loss.device().clone(),
            Source::Given(_) => self.store.device().clone(),
        };
        let reached = self.with_pass(update, |pass| {
            let given;
            let gradients = match source {
                Source::Loss(loss) => Gradients::Of(loss),
                Source::Given(all) => {
                    given = pass.members(all);
                    Gradients::Given(&given)
                }
            };
            let reached = pass.step(gradients, |step| engine::step(step, &device, at))?;
            Ok(pass.by_parameter(&reached))
        })?;
        let mut updated = vec![false; self.histories.len()];
        for (number, reached) in reached {
            if reached && !update {
                self.gathered[number] = true;
            }
            updated[number] = reached || self.gathered[number];
        }
        if update {
            self.part(&updated);
            self.gathered.fill(false);
            self.submitted += 1;
        }
        Ok(())
    }

    /// Parts the histories of parameters that this step has updated from those that it has not. Whether the device refuses it
    /// makes no difference: it counts for all of them, or for none.
    fn part(&mut self, updated: &[bool]) {
        let count = self.histories.iter().max().map_or(0, |last| last + 1);
        let mut known: Vec<Option<bool>> = vec![None; count];
        // Most steps part none.
        if self.histories.iter().zip(updated).all(|(&history, own)| known[history].get_or_insert(*own) == own) {
            return;
        }
        let mut numbers: HashMap<(usize, bool), usize> = HashMap::new();
        for (history, &updated) in self.histories.iter_mut().zip(updated) {
            let next = numbers.len();
            *history = *numbers.entry((*history, updated)).or_insert(next);
        }
    }

    /// The plan that a step on `loss` (with `update` false: a pass that only gathers gradients) would take on a device
    /// with `capabilities`. Nothing is run.
    ///
    /// # Errors
    /// The error that the loss carries, or what planning met.
    pub fn plan_for(&mut self, loss: &Tensor, update: bool, capabilities: &Capabilities, fusion: bool) -> Result<Plan> {
        let target = Target { capabilities: capabilities.clone(), ..Target::default() };
        self.plan_with(loss, update, &target, fusion)
    }

    /// [`Stepper::plan_for`], with variants forced or chosen.
    #[doc(hidden)]
    pub fn plan_with(&mut self, loss: &Tensor, update: bool, target: &Target, fusion: bool) -> Result<Plan> {
        let plan = |step: &engine::Step<'_>| engine::step_plan(loss, step, target, fusion);
        self.with_pass(update, |pass| pass.step(Gradients::Of(loss), plan))
    }
}

impl<R: Rule> Optimizer for Stepper<R> {
    #[track_caller]
    fn step(&mut self, loss: &Tensor) -> Result<()> {
        self.pass(Source::Loss(loss), true)
    }

    #[track_caller]
    fn accumulate(&mut self, loss: &Tensor) -> Result<()> {
        self.pass(Source::Loss(loss), false)
    }

    #[track_caller]
    fn step_with(&mut self, gradients: Vec<(Param, Tensor)>) -> Result<()> {
        self.prepare()?;
        let gradients = match &self.tally {
            // What is gathered is scaled, so these are too.
            Some(Tally { scaling: Some(_), leaf, .. }) => {
                gradients.into_iter().map(|(param, gradient)| (param, gradient * leaf)).collect()
            }
            _ => gradients,
        };
        let given = given::by_parameter(&self.store, gradients, Location::caller())?;
        self.pass(Source::Given(&given), true)
    }

    fn lr(&self) -> f64 {
        self.rule.settings().lr
    }

    fn set_lr(&mut self, lr: f64) {
        self.rule.set_lr(lr);
    }

    fn steps(&self) -> u64 {
        self.submitted - self.author.refused.load(Ordering::Acquire).min(self.submitted)
    }

    fn gradient_norm(&self) -> Result<f64> {
        match &self.tally {
            Some(tally) => Ok(tally.status.read(0, 1)?[0]),
            None => Ok(0.0),
        }
    }

    fn store(&self) -> &ParamStore {
        &self.store
    }

    fn loss_scale(&self) -> Result<Option<f64>> {
        match &self.tally {
            Some(Tally { scaling: Some(_), scale, .. }) => Ok(Some(scale.read(0, 1)?[0])),
            _ => Ok(None),
        }
    }

    fn state(&self) -> Result<OptimizerState> {
        self.saved()
    }

    fn set_state(&mut self, state: &OptimizerState) -> Result<()> {
        self.restore(state)
    }

    fn state_in_place(&self) -> Result<StateInPlace> {
        self.saved_in_place()
    }

    fn set_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.restore_packed(state, tensors)
    }
}
