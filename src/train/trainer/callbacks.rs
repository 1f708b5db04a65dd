//! Callbacks that change what is trained: freezing, a rate that falls on a plateau.

use serde_json::Value;

use super::callback::{Callback, Event, Run};
use super::options::MODEL;
use super::watched::Watched;
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
    watched: Watched,
    plateau: Plateau,
    optimizer: String,
    at: &'static std::panic::Location<'static>,
}

impl ReduceOnPlateau {
    /// Observes a metric after each epoch, or each validation if its name begins with `val_`.
    #[track_caller]
    pub fn on(metric: &str, plateau: Plateau) -> ReduceOnPlateau {
        let at = std::panic::Location::caller();
        let watched = Watched::new(metric, plateau.goal());
        ReduceOnPlateau { watched, plateau, optimizer: MODEL.into(), at }
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
        format!("plateau of {}", self.watched.metric)
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        if let Event::FitStart { .. } = event {
            let wrong = self.plateau.check().err().or(self.watched.problem("the rate is to follow", run.validates()));
            return wrong.map_or_else(|| self.set(run), |problem| Err(problem.at("ReduceOnPlateau", self.at)));
        }
        if let Some(value) = self.watched.look(event, self.at)? {
            self.plateau.observe(value);
            self.set(run)?;
        }
        Ok(())
    }

    fn state(&self) -> Value {
        self.plateau.state()
    }

    fn set_state(&mut self, state: &Value) -> Result<()> {
        self.plateau.set_state(state)
    }
}
