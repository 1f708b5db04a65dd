//! What a trainer is, and what can be said of it.

use std::collections::BTreeMap;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};

use super::callback::{Callback, Named};
use super::history::History;
use super::options::{Every, MODEL, NotFinite};
use super::saves::Saves;
use super::step::Refusals;
use super::sums::Sums;
use crate::clock::Instant;
use crate::distributed::World;
use crate::error::{Error, Problem, Result};
use crate::optim::{Average, Optimizer};
use crate::params::ParamStore;
use crate::train::checkpoint::Part;

/// A part of a checkpoint that the program holds, too.
pub(super) type Shared = (String, Arc<Mutex<dyn Part + Send>>);

/// Where a run stands. All of it is in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Place {
    pub epoch: u64,
    /// Batches of the epoch that have been given.
    pub batch: u64,
    pub step: u64,
    /// How often batches have been halved.
    pub halved: u32,
    /// True from the moment that a validation within an epoch is due until it is done.
    pub validation_due: bool,
    /// True once callbacks have been told that the epoch has begun.
    pub begun: bool,
    /// Times that the weights went back to a checkpoint.
    pub went_back: u64,
    /// Seconds of training in earlier fits.
    pub seconds: f64,
}

/// The best value of the metric that the best checkpoint is chosen by, and the steps that have a checkpoint of their own.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Kept {
    pub best: Option<f64>,
    pub steps: Vec<u64>,
    /// True until the best checkpoint has been written.
    pub best_due: bool,
}

/// The training loop.
///
/// It is given a model's parameters, an optimizer, limits and callbacks, and then, by [`Trainer::fit`], data and a closure
/// that says what a batch is: the same for training and for validation.
///
/// ```
/// use kiln::prelude::*;
/// use kiln::train::{EarlyStopping, Trainer};
///
/// let device = Device::cpu();
/// let digits = kiln::data::digits();
/// let params = ParamStore::new(&device, 42);
/// let net = Linear::new(&params.root().child("fc"), 64, 10);
/// let adamw = AdamW::new(&params, AdamWConfig { lr: 0.01, ..Default::default() });
///
/// let history = Trainer::new(&params)
///     .optimizer(adamw)
///     .epochs(2)
///     .callback(EarlyStopping::on("val_loss").patience(3))
///     .fit(digits.train.batches(256).shuffle(42), digits.test.batches(256), |step, batch| {
///         let images = step.device().tensor(&batch.images, &[batch.len(), 64]);
///         let labels = step.device().labels(&batch.labels);
///         let logits = net.forward(&images, step.mode());
///         step.metric("accuracy", logits.argmax(1).eq(&labels).cast(DType::F32).mean_all());
///         step.minimise(&logits.cross_entropy(&labels))
///     })?;
/// assert!(history.get("val_accuracy") > Some(0.5), "{history:?}");
/// # Ok::<(), Error>(())
/// ```
///
/// What a model, an optimizer or a loader can do is said to them: clipping, schedules and
/// [averages](crate::optim::Ema) to the optimizer, [`set_precision`](ParamStore::set_precision) to the store, order and
/// batch size to the loader.
///
/// **Stopping and resuming.** With [`Trainer::saves`] there are checkpoints, with all that a run needs to go on: models,
/// optimizers, the position in the data, metrics under way, the history, the states of callbacks. A run that is killed
/// anywhere and resumed ends in the same bits, the same history and the same best checkpoint, but for what depends on the
/// clock. A checkpoint of other data, another batch size or seed, or another model is refused, with both values.
///
/// **A second fit** of the same trainer goes on where the first one ended: its counts, history and callbacks stay. Limits
/// that are reached end it at once, so raise one before.
pub struct Trainer {
    pub(super) at: &'static Location<'static>,
    pub(super) stores: Vec<(String, ParamStore)>,
    pub(super) optimizers: Vec<Named>,
    pub(super) callbacks: Vec<(String, Box<dyn Callback>)>,
    pub(super) averages: Vec<(String, Average)>,
    pub(super) shared: Vec<Shared>,
    pub(super) settings: Vec<(String, String)>,
    /// What may change when the run goes on, and is told then.
    pub(super) noted: Vec<(String, String)>,
    /// What has changed: a name, the value before, the value now.
    pub(super) changed: Vec<[String; 3]>,
    pub(super) outputs: Vec<PathBuf>,
    pub(super) epochs: Option<u64>,
    pub(super) steps: Option<u64>,
    pub(super) time: Option<Duration>,
    pub(super) validate_every: Every,
    pub(super) log_every: u64,
    pub(super) limit: Option<u64>,
    pub(super) validation_limit: Option<u64>,
    pub(super) overfits: bool,
    pub(super) accumulate: u64,
    pub(super) not_finite: NotFinite,
    pub(super) halves: bool,
    pub(super) norms: bool,
    pub(super) saves: Option<Saves>,
    pub(super) resume_from: Option<PathBuf>,
    pub(super) stop: Arc<AtomicBool>,
    /// What was wrong with how it was made.
    pub(super) problem: Option<Error>,
    // Where it stands.
    pub(super) place: Place,
    pub(super) kept: Kept,
    pub(super) history: History,
    pub(super) sums: Sums,
    pub(super) refusals: Refusals,
    /// Batches of the present step that have been given.
    pub(super) gathered: u64,
    pub(super) items: u64,
    pub(super) asked: Option<String>,
    /// What callbacks add to the numbers of an epoch or a validation.
    pub(super) extra: BTreeMap<String, f64>,
    pub(super) per_epoch: u64,
    pub(super) validates: bool,
    pub(super) begun: bool,
    /// What must be the same when the run goes on.
    pub(super) identity: Map<String, Value>,
    pub(super) started: Option<Instant>,
    /// Time that fits took without validations, and that of the validations of the present one.
    pub(super) fitted: Duration,
    pub(super) validating: Duration,
    pub(super) validated: Option<Instant>,
    pub(super) saved: Option<Instant>,
    /// Where it stood when the last checkpoint was written, and why the last attempt failed.
    pub(super) saved_at: Option<Place>,
    pub(super) unsaved: Option<Error>,
    /// Callbacks that a warning has been given about.
    pub(super) warned: Vec<String>,
    /// The ranks that it fits with, and whether that was said.
    pub(super) world: World,
    pub(super) is_distributed: bool,
    /// True if the loader gives this rank its own batches, one behind the other.
    pub(super) shares_out: bool,
}

impl Trainer {
    /// A trainer of a model's parameters.
    #[track_caller]
    pub fn new(params: &ParamStore) -> Trainer {
        Trainer {
            at: Location::caller(),
            stores: vec![(MODEL.into(), params.clone())],
            optimizers: vec![],
            callbacks: vec![],
            averages: vec![],
            shared: vec![],
            settings: vec![],
            noted: vec![],
            changed: vec![],
            outputs: vec![],
            epochs: None,
            steps: None,
            time: None,
            validate_every: Every::Epochs(1),
            log_every: 16,
            limit: None,
            validation_limit: None,
            overfits: false,
            accumulate: 1,
            not_finite: NotFinite::Stop,
            halves: false,
            norms: false,
            saves: None,
            resume_from: None,
            stop: Arc::default(),
            problem: None,
            place: Place::default(),
            kept: Kept::default(),
            history: History::default(),
            sums: Sums::new(params.device()),
            refusals: Refusals::default(),
            gathered: 0,
            items: 0,
            asked: None,
            extra: BTreeMap::new(),
            per_epoch: 0,
            validates: false,
            begun: false,
            identity: Map::new(),
            started: None,
            fitted: Duration::ZERO,
            validating: Duration::ZERO,
            validated: None,
            saved: None,
            saved_at: None,
            unsaved: None,
            warned: vec![],
            world: World::alone(),
            is_distributed: false,
            shares_out: true,
        }
    }

    pub(super) fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        Problem::Value(what.into(), next).at("Trainer", self.at)
    }

    /// Notes the first thing that is wrong with how it is made; the fit reports it.
    pub(super) fn unless(mut self, right: bool, what: impl FnOnce() -> String, next: &'static str) -> Trainer {
        if !right && self.problem.is_none() {
            self.problem = Some(self.refuse(what(), next));
        }
        self
    }

    /// The optimizer of [`Step::minimise`](super::Step::minimise).
    #[must_use]
    pub fn optimizer(self, optimizer: impl Optimizer + Send + 'static) -> Trainer {
        self.optimizer_named(MODEL, Box::new(optimizer))
    }

    /// An optimizer of [`Step::minimise_with`](super::Step::minimise_with): for a generator and a critic, an actor and a
    /// critic, each with its own.
    #[must_use]
    pub fn optimizer_named(mut self, name: &str, optimizer: Box<dyn Optimizer + Send>) -> Trainer {
        let is_new = self.optimizers.iter().all(|(known, _)| known != name);
        self.optimizers.push((name.into(), optimizer));
        self.unless(is_new, || format!("two optimizers are called `{name}`"), "give each a name of its own")
    }

    /// Another model that is trained or kept beside the first one, under a name of its own: it is saved with it.
    #[must_use]
    pub fn store(mut self, name: &str, params: &ParamStore) -> Trainer {
        let is_new = self.stores.iter().all(|(known, _)| known != name);
        self.stores.push((name.into(), params.clone()));
        self.unless(is_new, || format!("two models are called `{name}`"), "give each a name of its own")
    }

    /// An average of the weights: validations are done with it in place, and it is saved. The optimizer must have it, too
    /// ([`Stepper::average`](crate::optim::Stepper::average)): that is what makes it follow.
    #[must_use]
    pub fn average(mut self, average: &Average) -> Trainer {
        let name = match self.averages.len() {
            0 => MODEL.to_string(),
            n => format!("average {n}"),
        };
        self.averages.push((name, average.clone()));
        self
    }

    /// Something of the program's own that belongs into checkpoints: a replay buffer, the state of a game.
    #[must_use]
    pub fn part(mut self, name: &str, part: Arc<Mutex<impl Part + Send + 'static>>) -> Trainer {
        self.shared.push((name.into(), part));
        self
    }

    /// Something that must be the same when the run is resumed, in words: the data set, the size of the model. A checkpoint
    /// that says otherwise is refused.
    #[must_use]
    pub fn setting(mut self, name: &str, value: impl ToString) -> Trainer {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// Something that may be another when the run is resumed, in words: the learning rate, the number of epochs. Checkpoints
    /// have it, and callbacks are told of a change by [`Event::Changed`](super::Event::Changed).
    #[must_use]
    pub fn noted(mut self, name: &str, value: impl ToString) -> Trainer {
        self.noted.push((name.into(), value.to_string()));
        self
    }

    /// A file that the program is going to write after the fit. That it can be written is made sure of before the first step;
    /// one that is there stays as it is until then.
    #[must_use]
    pub fn output(mut self, path: impl Into<PathBuf>) -> Trainer {
        self.outputs.push(path.into());
        self
    }

    /// Adds a [`Callback`]. They are called in the order in which they were added.
    #[must_use]
    pub fn callback(mut self, callback: impl Callback + 'static) -> Trainer {
        let name = callback.name().replace('/', "_");
        let alike = |own: &str| own == name || own.strip_prefix(&name).is_some_and(|rest| rest.starts_with(" #"));
        let name = match self.callbacks.iter().filter(|(own, _)| alike(own)).count() {
            0 => name,
            n => format!("{name} #{}", n + 1),
        };
        self.callbacks.push((name, Box::new(callback)));
        self
    }

    /// Ends the fit after so many passes over the training data.
    #[must_use]
    pub fn epochs(mut self, epochs: u64) -> Trainer {
        self.epochs = Some(epochs);
        self
    }

    /// Ends the fit after so many steps in all.
    #[must_use]
    pub fn steps(mut self, steps: u64) -> Trainer {
        self.steps = Some(steps);
        self
    }

    /// Ends the fit after so much time of training in all.
    #[must_use]
    pub fn time(mut self, time: Duration) -> Trainer {
        self.time = Some(time);
        self
    }

    /// How often to validate (default: after each epoch).
    #[must_use]
    pub fn validate_every(mut self, every: Every) -> Trainer {
        self.validate_every = every;
        self.unless(!every.is_never(), || "a validation every 0 steps, epochs or seconds".into(), "pass more than 0")
    }

    /// Steps whose means make one [`Event::Logged`](super::Event::Logged) (default: 16).
    #[must_use]
    pub fn log_every(mut self, steps: u64) -> Trainer {
        self.log_every = steps;
        self.unless(steps > 0, || "a log every 0 steps".into(), "pass 1 or more")
    }

    /// Adds the norm of the gradients before clipping to what is logged: `gradient_norm`, of a named optimizer
    /// `NAME_gradient_norm`. It is read from the device, which waits once a log for the steps under way.
    #[must_use]
    pub fn log_gradient_norm(mut self) -> Trainer {
        self.norms = true;
        self
    }

    /// Takes only the first `batches` of each epoch.
    #[must_use]
    pub fn limit_batches(mut self, batches: u64) -> Trainer {
        self.limit = Some(batches);
        self.unless(batches > 0, || "epochs of 0 batches".into(), "pass 1 or more")
    }

    /// Takes only the first `batches` of each validation.
    #[must_use]
    pub fn limit_validation_batches(mut self, batches: u64) -> Trainer {
        self.validation_limit = Some(batches);
        self.unless(batches > 0, || "validations of 0 batches".into(), "pass 1 or more")
    }

    /// Goes once through all of a program: one batch of training, one of validation, and no checkpoint.
    #[must_use]
    pub fn fast_dev_run(self) -> Trainer {
        Trainer { saves: None, resume_from: None, ..self.limit_batches(1).limit_validation_batches(1).epochs(1) }
    }

    /// Trains on the same first `batches` again and again, in the same order: a model that can learn anything should soon
    /// have a loss near 0.
    #[must_use]
    pub fn overfit_batches(mut self, batches: u64) -> Trainer {
        self.overfits = true;
        self.limit_batches(batches)
    }

    /// Makes one step of so many batches: their gradients are gathered, and the loss of the step is the mean of theirs over
    /// all items. The last step of an epoch may have fewer. A step of a batch is the default.
    #[must_use]
    pub fn accumulate(mut self, batches: u64) -> Trainer {
        self.accumulate = batches;
        self.unless(batches > 0, || "a step of 0 batches".into(), "pass 1 or more")
    }

    /// What to do about a loss or a gradient that is not finite (default: [`NotFinite::Stop`]).
    #[must_use]
    pub fn not_finite(mut self, policy: NotFinite) -> Trainer {
        self.not_finite = policy;
        self
    }

    /// Halves the batches when the device has no memory left for one, and takes a step from two of them, so that updates
    /// are the same but for rounding. Layers that look at the whole batch, such as batch normalisation, see less of it, and a
    /// closure that takes several steps a batch takes those before the failing one again. The batch must have an even
    /// number of items, and a sampler that makes batches of like items gives another order.
    #[must_use]
    pub fn halve_on_out_of_memory(mut self) -> Trainer {
        self.halves = true;
        self
    }

    /// A flag that ends the fit once it is set: the step under way is finished, and the checkpoint saved. A validation is
    /// broken off, and is done anew when the run is resumed.
    #[must_use]
    pub fn stop_flag(mut self, flag: Arc<AtomicBool>) -> Trainer {
        self.stop = flag;
        self
    }

    /// Where and when to save checkpoints (default: never).
    #[must_use]
    pub fn saves(mut self, saves: Saves) -> Trainer {
        self.saves = Some(saves);
        self
    }

    /// Goes on from this checkpoint, which must be there.
    #[must_use]
    pub fn resume_from(mut self, path: impl Into<PathBuf>) -> Trainer {
        self.resume_from = Some(path.into());
        self
    }

    /// Epochs, validations and warnings so far: also after a fit that failed. [`History::stopped`] is set if all of it was
    /// done, and only the last checkpoint could not be written.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Steps so far.
    pub fn step(&self) -> u64 {
        self.place.step
    }

    /// Items that the fits of this trainer have trained on, again and again as epochs repeat them.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Time that the fits of this trainer took without their validations.
    pub fn training_time(&self) -> Duration {
        self.fitted
    }

    /// An optimizer by name; `model` is the one without a name of its own. It is not there while a checkpoint is written.
    pub fn optimizer_mut(&mut self, name: &str) -> Option<&mut (dyn Optimizer + Send + 'static)> {
        self.optimizers.iter_mut().find_map(|(known, optimizer)| (known == name).then_some(&mut **optimizer))
    }

    /// What is wrong with how it was made, before anything is done.
    pub(super) fn check(&self, batches: u64, validation: Option<u64>) -> Result<()> {
        if let Some(error) = &self.problem {
            return Err(error.clone());
        }
        if let Some((what, next)) = self.saves.as_ref().and_then(Saves::problem) {
            return Err(self.refuse(what, next));
        }
        if self.epochs.is_none() && self.steps.is_none() && self.time.is_none() {
            return Err(self.refuse("nothing ends the fit", "say how many epochs, how many steps, or how much time"));
        }
        if batches == 0 {
            let next = "pass data, or a smaller batch if incomplete ones are left out";
            return Err(self.refuse("the training data have no batch", next));
        }
        if validation == Some(0) {
            let next = "pass data, or `()` for a fit without validation";
            return Err(self.refuse("the validation data have no batch", next));
        }
        self.check_ranks()?;
        let best = self.saves.as_ref().and_then(|saves| saves.best.as_ref());
        let problem =
            best.and_then(|best| best.problem("the best checkpoint is to be chosen by", validation.is_some()));
        if let Some(problem) = problem {
            return Err(problem.at("Trainer", self.at));
        }
        Ok(())
    }
}
