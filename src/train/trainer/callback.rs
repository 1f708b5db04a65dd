//! What a training loop tells those who look on, and what they may do to it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::history::{History, Record};
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::params::ParamStore;
use crate::train::metrics::Figures;

/// What has just happened in a fit, in the order of a run.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The fit begins. All state has been loaded if it is resumed.
    FitStart {
        /// True if it goes on from a checkpoint, or from an earlier fit of the same trainer.
        resumed: bool,
    },
    /// The run goes on with another value of what [`Trainer::noted`](super::Trainer::noted) has told.
    Changed {
        /// What has changed.
        name: &'a str,
        /// Its value when the checkpoint was written.
        before: &'a str,
        /// Its value now.
        now: &'a str,
    },
    /// An epoch begins. Not sent again to a run that is resumed within it.
    EpochStart,
    /// A step is about to begin.
    StepStart,
    /// A step has been queued on the device; [`Run::step`] counts it.
    StepEnd,
    /// The means since the last such event, every [`log_every`](super::Trainer::log_every) steps and at the end of an
    /// epoch. They arrive some steps after those that they tell of, so that nothing waits; [`Record::step`] is theirs.
    Logged(&'a Record),
    /// A validation begins. That of an epoch which the fit ends within has no [`Event::Validated`]: the epoch may go on.
    ValidationStart,
    /// A batch has been queued within a validation.
    ValidationStep {
        /// Batches so far.
        done: u64,
        /// Batches in all, if the data say so.
        of: u64,
    },
    /// The numbers of a validation, or else of the training of an epoch, are put together: [`Run::record`] adds to them what
    /// is no mean over items, such as the area under a curve. Keep what they are made of apart for training and for
    /// validation, which may come within an epoch, and begin anew after this.
    Measure {
        /// True for a validation, within which averages are still in place of the weights.
        validation: bool,
    },
    /// What the metrics of an epoch or a validation have come to that are no means: figures by class, a confusion matrix. The
    /// values are in the record that follows, too.
    Figures {
        /// True for a validation.
        validation: bool,
        /// The figures, in the order in which they were first recorded.
        figures: &'a Figures,
    },
    /// A validation is done. The names of its numbers begin with `val_`.
    Validated(&'a Record),
    /// An epoch is done, its validation included.
    EpochEnd(&'a Record),
    /// A checkpoint has been written.
    Saved(&'a Path),
    /// A step was skipped because its loss or a gradient is not finite, and the run goes on all the same.
    Skipped(&'a Error),
    /// Something went wrong that does not end the run.
    Warning(&'a str),
    /// The fit has ended as it should.
    FitEnd(&'a History),
    /// The fit ends with this error.
    Failed(&'a Error),
}

/// Looks on while a model is trained, and may step in.
///
/// A closure that takes an event and the run is one. A struct is one like this:
///
/// ```
/// use kiln::prelude::*;
/// use kiln::train::{Callback, Event, Run};
/// use serde_json::{Value, json};
///
/// /// Ends a run whose loss has fallen below a bound.
/// struct GoodEnough {
///     bound: f64,
///     epochs_below: u64,
/// }
///
/// impl Callback for GoodEnough {
///     fn name(&self) -> String {
///         "good enough".into()
///     }
///
///     fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
///         if let Event::EpochEnd(record) = event
///             && record.get("loss").is_some_and(|loss| loss < self.bound)
///         {
///             self.epochs_below += 1;
///             if self.epochs_below == 2 {
///                 run.stop("the loss is low enough");
///             }
///         }
///         Ok(())
///     }
///
///     // Without these two a resumed run would count from 0 again.
///     fn state(&self) -> Value {
///         json!(self.epochs_below)
///     }
///
///     fn set_state(&mut self, state: &Value) -> Result<()> {
///         self.epochs_below = state.as_u64().unwrap_or(0);
///         Ok(())
///     }
/// }
/// ```
///
/// Callbacks are called in the order in which the trainer was given them, always from the same place: between two steps,
/// when nothing is half done. They do not wait for the device; what they are told has been read.
pub trait Callback: Send {
    /// What errors and checkpoints call it. A second one of the same name gets a number.
    fn name(&self) -> String {
        let whole = std::any::type_name::<Self>();
        let bare = whole.split('<').next().unwrap_or(whole);
        bare.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or(bare).to_string()
    }

    /// True if of several ranks only the first is to call it: one that prints or writes files, and does nothing to the run.
    fn is_of_first_rank(&self) -> bool {
        false
    }

    /// Something has happened.
    ///
    /// # Errors
    /// [`Error::Io`] is told once as a warning, and training goes on: a full disk ends no run. Any other error, and a
    /// panic, ends the fit with [`Error::Callback`].
    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()>;

    /// All that it must know again to go on as if the run had never been stopped. Null (the default) if there is nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Goes on from [`Callback::state`]. Called before [`Event::FitStart`], and only if there was something.
    ///
    /// # Errors
    /// What is wrong with it: the fit does not begin then.
    fn set_state(&mut self, state: &Value) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

impl<F: FnMut(Event<'_>, &mut Run<'_>) -> Result<()> + Send> Callback for F {
    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        self(event, run)
    }
}

/// An optimizer and the name that it has in a trainer.
pub(super) type Named = (String, Box<dyn Optimizer + Send>);

/// Where a run stands, and what a callback may do to it.
pub struct Run<'a> {
    pub(super) epoch: u64,
    pub(super) batch: u64,
    pub(super) step: u64,
    pub(super) batches_per_epoch: u64,
    pub(super) epochs: Option<u64>,
    pub(super) steps: Option<u64>,
    pub(super) items: u64,
    pub(super) elapsed: Duration,
    pub(super) validates: bool,
    pub(super) history: &'a History,
    pub(super) stores: &'a [(String, ParamStore)],
    pub(super) optimizers: &'a mut [Named],
    pub(super) asked: &'a mut Option<String>,
    pub(super) shown: &'a mut bool,
    pub(super) extra: &'a mut BTreeMap<String, f64>,
}

impl Run<'_> {
    /// The epoch under way; the first is 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Batches of this epoch that have been given.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// Steps of the whole run that have been queued. With accumulation a step takes several batches.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Batches in each epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.batches_per_epoch
    }

    /// Epochs that the run may have.
    pub fn epochs(&self) -> Option<u64> {
        self.epochs
    }

    /// Steps that the run may have.
    pub fn steps(&self) -> Option<u64> {
        self.steps
    }

    /// Items that this fit has trained on, again and again as epochs repeat them. It starts at 0 when a run is resumed.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// Time of training since the run began, that before a resumption included.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// True if there are data for validation.
    pub fn validates(&self) -> bool {
        self.validates
    }

    /// Epochs and validations so far.
    pub fn history(&self) -> &History {
        self.history
    }

    /// The model that the trainer was made with.
    pub fn params(&self) -> &ParamStore {
        // A trainer is made with one.
        &self.stores[0].1
    }

    /// A model by name: `model` is the one that the trainer was made with.
    pub fn store(&self, name: &str) -> Option<&ParamStore> {
        self.stores.iter().find_map(|(known, store)| (known == name).then_some(store))
    }

    /// The names of the optimizers, in order.
    pub fn optimizers(&self) -> impl Iterator<Item = &str> {
        self.optimizers.iter().map(|(name, _)| name.as_str())
    }

    /// An optimizer by name: `model` is the one without a name of its own.
    pub fn optimizer(&mut self, name: &str) -> Option<&mut (dyn Optimizer + Send + 'static)> {
        self.optimizers.iter_mut().find_map(|(known, optimizer)| (known == name).then_some(&mut **optimizer))
    }

    /// The learning rate of the first optimizer, if there is one.
    pub fn lr(&self) -> Option<f64> {
        self.optimizers.first().map(|(_, optimizer)| optimizer.lr())
    }

    /// Ends the fit after this step; what is due then is still done, at the end of an epoch its validation. Of several
    /// reasons the first counts.
    pub fn stop(&mut self, why: impl Into<String>) {
        self.asked.get_or_insert_with(|| why.into());
    }

    /// Adds a number to those of this [`Event::Measure`]; in a validation its name gets `val_` in front. Heard at no other
    /// event.
    pub fn record(&mut self, name: &str, value: f64) {
        self.extra.insert(name.into(), value);
    }

    /// Says that this callback has shown the [`Event::Warning`] that it was told of. Otherwise it is printed to stderr.
    pub fn warning_shown(&mut self) {
        *self.shown = true;
    }
}

impl fmt::Debug for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Run(epoch {}, batch {}, step {})", self.epoch, self.batch, self.step)
    }
}
