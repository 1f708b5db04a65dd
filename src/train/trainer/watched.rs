//! A metric that something depends on: its name, and which of its values are better.

use std::panic::Location;

use super::callback::Event;
use super::history::Record;
use crate::error::{Error, Problem, Result};
use crate::schedule::Goal;

/// A metric by name. One that begins with `val_` is looked at after each validation, any other after each epoch.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub metric: String,
    pub goal: Goal,
}

impl Watched {
    pub fn new(metric: &str, goal: Goal) -> Watched {
        Watched { metric: metric.into(), goal }
    }

    pub fn is_of_validation(&self) -> bool {
        self.metric.starts_with("val_")
    }

    /// What is wrong with watching it in a fit, of which it `is_to` be something.
    pub fn problem(&self, is_to: &str, validates: bool) -> Option<Problem> {
        (self.is_of_validation() && !validates).then(|| {
            let what = format!("{is_to} `{}`, and there is no validation", self.metric);
            Problem::Value(what, "pass data for validation, or name a metric of training")
        })
    }

    /// Its value, if this is an event after which it is looked at.
    ///
    /// # Errors
    /// As [`value`].
    pub fn look(&self, event: Event<'_>, at: &'static Location<'static>) -> Result<Option<f64>> {
        match event {
            Event::Validated(record) if self.is_of_validation() => value(record, &self.metric, at).map(Some),
            Event::EpochEnd(record) if !self.is_of_validation() => value(record, &self.metric, at).map(Some),
            _ => Ok(None),
        }
    }

    /// True if a value is better than the best by more than `margin`, or the first one. False for NaN.
    pub fn is_better(&self, value: f64, best: Option<f64>, margin: f64) -> bool {
        match (self.goal, best) {
            _ if value.is_nan() => false,
            (_, None) => true,
            (Goal::Min, Some(best)) => value < best - margin,
            (Goal::Max, Some(best)) => value > best + margin,
        }
    }
}

/// A metric by name.
///
/// # Errors
/// [`Error::Value`] with the names that there are.
pub(super) fn value(record: &Record, metric: &str, at: &'static Location<'static>) -> Result<f64> {
    record.get(metric).ok_or_else(|| -> Error {
        let names: Vec<&str> = record.values.keys().map(String::as_str).collect();
        let what = format!("nothing records the metric `{metric}`; there are [{}]", names.join(", "));
        Problem::Value(what, "record it by Step::metric, or name one of these").at("Trainer", at)
    })
}
