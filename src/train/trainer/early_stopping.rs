//! Ends a run that gets no better.

use serde_json::{Value, json};

use super::callback::{Callback, Event, Run};
use super::history::{number, number_of};
use super::watched::Watched;
use crate::error::{Error, Problem, Result};
use crate::schedule::Goal;

/// Ends a run once a metric has not got better for some time (Prechelt 1998, "Early stopping, but when?").
///
/// A metric whose name begins with `val_` is looked at after each validation, any other after each epoch. One that is NaN
/// is no better than any other. That nothing records it is an error, at the first look, or before training if it is one
/// of validation and there is none.
///
/// ```
/// use kiln::schedule::Goal;
/// use kiln::train::EarlyStopping;
///
/// EarlyStopping::on("val_accuracy").goal(Goal::Max).patience(5).by(0.001);
/// ```
#[derive(Debug, Clone)]
pub struct EarlyStopping {
    watched: Watched,
    patience: u64,
    by: f64,
    at: &'static std::panic::Location<'static>,
    best: Option<f64>,
    /// Looks since the best.
    worse: u64,
    why: Option<String>,
}

impl EarlyStopping {
    /// Watches a metric, of which lower values are better. Without more it ends the run at the first value that is no better
    /// than the best.
    #[track_caller]
    pub fn on(metric: &str) -> EarlyStopping {
        EarlyStopping {
            watched: Watched::new(metric, Goal::Min),
            patience: 1,
            by: 0.0,
            at: std::panic::Location::caller(),
            best: None,
            worse: 0,
            why: None,
        }
    }

    /// Which values are better (default: [`Goal::Min`]).
    #[must_use]
    pub fn goal(mut self, goal: Goal) -> EarlyStopping {
        self.watched.goal = goal;
        self
    }

    /// Ends the run at the `looks`-th value in a row that is no better than the best (default: 1).
    #[must_use]
    pub fn patience(mut self, looks: u64) -> EarlyStopping {
        self.patience = looks;
        self
    }

    /// A value counts as better only if it is so by more than `margin` (default: 0).
    #[must_use]
    pub fn by(mut self, margin: f64) -> EarlyStopping {
        self.by = margin;
        self
    }

    fn look(&mut self, value: f64, run: &mut Run<'_>) {
        if self.watched.is_better(value, self.best, self.by) {
            (self.best, self.worse) = (Some(value), 0);
            return;
        }
        self.worse += 1;
        if self.worse >= self.patience {
            let best = self.best.map_or("never more than NaN".into(), |best| format!("at best {best:.6}"));
            let times = if self.worse == 1 { "once".into() } else { format!("{} times", self.worse) };
            self.why = Some(format!("{} has not got better {times} in a row: it was {best}", self.watched.metric));
        }
        self.stop(run);
    }

    fn stop(&self, run: &mut Run<'_>) {
        if let Some(why) = &self.why {
            run.stop(why.clone());
        }
    }

    fn refuse(&self, what: String, next: &'static str) -> Error {
        Problem::Value(what, next).at("EarlyStopping", self.at)
    }
}

impl Callback for EarlyStopping {
    fn name(&self) -> String {
        format!("early stopping on {}", self.watched.metric)
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        if let Event::FitStart { .. } = event {
            if let Some(problem) = self.watched.problem("the run is to end by", run.validates()) {
                return Err(problem.at("EarlyStopping", self.at));
            }
            if self.patience == 0 || !(self.by >= 0.0 && self.by.is_finite()) {
                let what = format!("a patience of {} by a margin of {}", self.patience, self.by);
                return Err(self.refuse(what, "pass a patience of 1 or more and a margin of 0 or more"));
            }
            // A run that it had ended does not go on.
            self.stop(run);
        }
        if let Some(value) = self.watched.look(event, self.at)? {
            self.look(value, run);
        }
        Ok(())
    }

    fn state(&self) -> Value {
        json!({ "best": self.best.map(number), "worse": self.worse, "why": self.why })
    }

    fn set_state(&mut self, state: &Value) -> Result<()> {
        let refused = || self.refuse("its saved state is damaged".into(), "take another checkpoint");
        let best = match &state["best"] {
            Value::Null => None,
            best => Some(number_of(best).ok_or_else(refused)?),
        };
        let worse = state["worse"].as_u64().ok_or_else(refused)?;
        (self.best, self.worse, self.why) = (best, worse, state["why"].as_str().map(String::from));
        Ok(())
    }
}
