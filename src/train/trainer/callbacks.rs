//! Callbacks that change what is trained: freezing, a rate that falls on a plateau.

use serde_json::Value;

use super::callback::{Callback, Event, Run};
use super::options::MODEL;
use super::validate::recorded;
use crate::error::{Problem, Result};
use crate::params::Path;
use crate::schedule::Plateau;

/// Keeps parameters as they are for the first epochs: a body that was trained before, while a new head learns.
///
/// ```
/// use kiln::prelude::*;
/// use kiln::train::{Freeze, Trainer};
///
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// let body = params.root().child("body");
/// Linear::new(&body, 4, 3);
/// Trainer::new(&params).callback(Freeze::until_epoch(2, &body));
/// ```
#[derive(Debug, Clone)]
pub struct Freeze {
    path: Path,
    epoch: u64,
}

impl Freeze {
    /// Freezes all parameters below `path` until epoch `epoch` begins; the first is 0.
    pub fn until_epoch(epoch: u64, path: &Path) -> Freeze {
        Freeze { path: path.clone(), epoch }
    }
}

impl Callback for Freeze {
    fn name(&self) -> String {
        "freeze".into()
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        // Whether a parameter is frozen is no part of a checkpoint: it follows from the epoch.
        if matches!(event, Event::FitStart { .. } | Event::EpochStart) {
            match run.epoch() < self.epoch {
                true => self.path.freeze(),
                false => self.path.unfreeze(),
            };
        }
        Ok(())
    }
}

/// Lowers the learning rate when a metric gets no better: a [`Plateau`] that a fit observes.
///
/// ```
/// use kiln::schedule::{Plateau, PlateauConfig};
/// use kiln::train::ReduceOnPlateau;
///
/// let plateau = Plateau::new(3e-3, PlateauConfig { patience: 2, ..Default::default() });
/// ReduceOnPlateau::on("val_loss", plateau);
/// ```
///
/// The optimizer must not have a schedule: the rate is set.
#[derive(Debug, Clone)]
pub struct ReduceOnPlateau {
    metric: String,
    plateau: Plateau,
    optimizer: String,
    at: &'static std::panic::Location<'static>,
}

impl ReduceOnPlateau {
    /// Observes a metric after each epoch, or each validation if its name begins with `val_`.
    #[track_caller]
    pub fn on(metric: &str, plateau: Plateau) -> ReduceOnPlateau {
        let at = std::panic::Location::caller();
        ReduceOnPlateau { metric: metric.into(), plateau, optimizer: MODEL.into(), at }
    }

    /// Sets the rate of the optimizer of this name.
    #[must_use]
    pub fn of_optimizer(mut self, name: &str) -> ReduceOnPlateau {
        self.optimizer = name.into();
        self
    }

    fn set(&self, run: &mut Run<'_>) -> Result<()> {
        match run.optimizer(&self.optimizer) {
            Some(optimizer) => optimizer.set_lr(self.plateau.lr()),
            None => {
                let what = format!("there is no optimizer `{}`", self.optimizer);
                Err(Problem::Value(what, "name one that the trainer has").at("ReduceOnPlateau", self.at))
            }
        }
    }
}

impl Callback for ReduceOnPlateau {
    fn name(&self) -> String {
        format!("plateau of {}", self.metric)
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        let is_of_validation = self.metric.starts_with("val_");
        match event {
            Event::FitStart { .. } => {
                self.plateau.check().map_err(|problem| problem.at("ReduceOnPlateau", self.at))?;
                if is_of_validation && !run.validates() {
                    let what = format!("`{}` is to be observed, and there is no validation", self.metric);
                    let next = "pass data for validation, or observe a metric of training";
                    return Err(Problem::Value(what, next).at("ReduceOnPlateau", self.at));
                }
                self.set(run)
            }
            Event::Validated(record) if is_of_validation => {
                self.plateau.observe(recorded(record, &self.metric, self.at)?);
                self.set(run)
            }
            Event::EpochEnd(record) if !is_of_validation => {
                self.plateau.observe(recorded(record, &self.metric, self.at)?);
                self.set(run)
            }
            _ => Ok(()),
        }
    }

    fn state(&self) -> Value {
        self.plateau.state()
    }

    fn set_state(&mut self, state: &Value) -> Result<()> {
        self.plateau.set_state(state)
    }
}
