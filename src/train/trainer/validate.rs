//! Judging a model by data that it does not learn from.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::batches::Validation;
use super::callback::Event;
use super::history::Record;
use super::settings::Trainer;
use super::step::Step;
use super::sums::Sums;
use crate::error::{Error, Problem, Result};
use crate::nn::Mode;
use crate::schedule::Goal;
use crate::tensor::no_grad;

impl Trainer {
    /// A validation with all that belongs to it. `None` if it was broken off.
    pub(super) async fn validate<B, V, F>(&mut self, validation: &mut V, step: &mut F) -> Result<Option<Record>>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        self.settle().await?;
        self.emit(Event::ValidationStart, None)?;
        let Some(values) = self.judge(validation, step, true).await? else { return Ok(None) };
        let record = self.record(values);
        self.place.validation_due = false;
        self.validated = Some(Instant::now());
        self.history.validations.push(record.clone());
        self.consider_best(&record, true)?;
        self.emit(Event::Validated(&record), None)?;
        Ok(Some(record))
    }

    /// The numbers of an epoch that the fit has ended within. They are in no checkpoint: the epoch may go on.
    pub(super) async fn judge_unfinished<B, V, F>(&mut self, validation: &mut V, step: &mut F) -> Result<()>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        let mut values = self.sums.so_far().await?;
        if self.validates {
            values.extend(self.judge(validation, step, false).await?.into_iter().flatten());
        }
        self.history.unfinished = Some(self.record(values));
        Ok(())
    }

    /// The means over the validation data, with the averages in place of the weights.
    async fn judge<B, V, F>(
        &mut self,
        validation: &mut V,
        step: &mut F,
        tells: bool,
    ) -> Result<Option<BTreeMap<String, f64>>>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        let all = validation.batches().unwrap_or(0);
        let of = self.validation_limit.map_or(all, |limit| all.min(limit));
        let of_training = std::mem::replace(&mut self.sums, Sums::new(self.stores[0].1.device()));
        let kept = self.averages.iter().map(|(_, average)| average.swap_in()).collect::<Result<Vec<_>>>();
        let result = match &kept {
            Ok(_) => self.judge_batches(validation, step, of, tells),
            Err(error) => Err(error.clone()),
        };
        let values = match result {
            Ok(true) => match self.sums.so_far().await {
                Ok(mut values) => self.measured(true).map(|more| {
                    values.extend(more);
                    Some(values)
                }),
                Err(error) => Err(error),
            },
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        self.sums = of_training;
        kept?.into_iter().try_for_each(|kept| kept.put_back())?;
        let named = |(name, value)| (format!("val_{name}"), value);
        Ok(values?.map(|values| values.into_iter().map(named).collect()))
    }

    /// False if it was broken off.
    fn judge_batches<B, V, F>(&mut self, validation: &mut V, step: &mut F, of: u64, tells: bool) -> Result<bool>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        validation.rewind()?;
        for done in 1..=of {
            if tells && self.stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let Some(batch) = validation.next_batch() else { break };
            let batch = batch?;
            let items = validation.last_items();
            self.call(Mode::Eval, items, 1.0, false, |view| no_grad(|| step(view, batch)))?;
            // A submission a batch: what was recorded is let go.
            self.sums.end_batch()?;
            if tells {
                self.emit(Event::ValidationStep { done, of }, None)?;
            }
        }
        Ok(true)
    }

    /// Notes that this is the best so far, if it is and there is a checkpoint of the best.
    pub(super) fn consider_best(&mut self, record: &Record, is_validation: bool) -> Result<()> {
        let best = self.saves.as_ref().and_then(|saves| saves.best.clone());
        let Some((metric, goal)) = best.filter(|(metric, _)| metric.starts_with("val_") == is_validation) else {
            return Ok(());
        };
        let value = recorded(record, &metric, self.at)?;
        if is_better(goal, value, self.kept.best) {
            (self.kept.best, self.kept.best_due) = (Some(value), true);
        }
        Ok(())
    }
}

/// A metric by name.
///
/// # Errors
/// [`Error::Value`] with the names that there are.
pub(super) fn recorded(record: &Record, metric: &str, at: &'static std::panic::Location<'static>) -> Result<f64> {
    record.get(metric).ok_or_else(|| -> Error {
        let names: Vec<&str> = record.values.keys().map(String::as_str).collect();
        let what = format!("nothing records the metric `{metric}`; there are [{}]", names.join(", "));
        Problem::Value(what, "record it by Step::metric, or name one of these").at("Trainer", at)
    })
}

/// False for NaN.
pub(super) fn is_better(goal: Goal, value: f64, best: Option<f64>) -> bool {
    match (goal, best) {
        _ if value.is_nan() => false,
        (_, None) => true,
        (Goal::Min, Some(best)) => value < best,
        (Goal::Max, Some(best)) => value > best,
    }
}
