//! Judging a model by data that it does not learn from.

use std::collections::BTreeMap;

use super::batches::Validation;
use super::callback::Event;
use super::held::{Held, Judging};
use super::history::Record;
use super::settings::Trainer;
use super::step::Step;
use super::sums::Sums;
use crate::clock::Instant;
use crate::error::Result;
use crate::nn::Mode;
use crate::tensor::no_grad;
use crate::train::metrics::Figures;
use crate::wait;

/// What the batches of a validation have come to: the numbers by name, and the parts of those that have some.
type Judged = (BTreeMap<String, f64>, Figures);

impl Trainer {
    /// Judges the model as a validation within a fit does, with averages in place of the weights: for data of a last test,
    /// or after a fit without validation. All batches are taken. The numbers have the names under which the closure records
    /// them, without `val_`, and are in no history; callbacks are told of [`Event::Measure`] and [`Event::Figures`] alone.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if there is no batch; else what the closure returns, what loading a batch
    /// met, and whatever the device refuses.
    pub fn evaluate<B, V, F>(&mut self, data: V, step: F) -> Result<(Record, Figures)>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        let held = Held::new();
        self.evaluate_here(&mut Judging(data, &held), &mut held.given(step))
    }

    fn evaluate_here(
        &mut self,
        data: &mut dyn Validation<()>,
        step: &mut dyn FnMut(&mut Step<'_>, ()) -> Result<()>,
    ) -> Result<(Record, Figures)> {
        wait::block_on("Trainer::evaluate", "Trainer::evaluate_async", self.evaluate_all(data, step))
    }

    /// [`Trainer::evaluate`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`].
    pub async fn evaluate_async<B, V, F>(&mut self, mut data: V, mut step: F) -> Result<(Record, Figures)>
    where
        V: Validation<B>,
        F: FnMut(&mut Step<'_>, B) -> Result<()>,
    {
        self.evaluate_all(&mut data, &mut step).await
    }

    async fn evaluate_all<B, V, F>(&mut self, data: &mut V, step: &mut F) -> Result<(Record, Figures)>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        if data.batches().unwrap_or(0) == 0 {
            return Err(self.refuse("the data have no batch", "pass data"));
        }
        self.settle().await?;
        // Nobody asks it to stop: it has no more batches than it was given.
        let of = data.batches().unwrap_or(0);
        let (values, figures) = self.judge(data, step, of, false).await?.unwrap_or_default();
        Ok((self.record(values), figures))
    }

    /// A validation with all that belongs to it. `None` if it was broken off.
    pub(super) async fn validate<B, V, F>(&mut self, validation: &mut V, step: &mut F) -> Result<Option<Record>>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        self.settle().await?;
        self.emit(Event::ValidationStart, None)?;
        let Some((values, _)) = self.judge(validation, step, self.validation_batches(validation), true).await? else {
            return Ok(None);
        };
        let record = self.record(of_validation(values).collect());
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
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        let mut values = self.sums.so_far().await?;
        values.extend(self.figures(false).await?.values());
        if self.validates {
            self.emit(Event::ValidationStart, None)?;
            let judged = self.judge(validation, step, self.validation_batches(validation), false).await?;
            values.extend(judged.into_iter().flat_map(|(values, _)| of_validation(values)));
        }
        self.history.unfinished = Some(self.record(values));
        Ok(())
    }

    /// Batches of each validation.
    fn validation_batches<B>(&self, validation: &(impl Validation<B> + ?Sized)) -> u64 {
        let all = validation.batches().unwrap_or(0);
        self.validation_limit.map_or(all, |limit| all.min(limit))
    }

    /// The means over the first batches of the validation data, with the averages in place of the weights.
    async fn judge<B, V, F>(&mut self, validation: &mut V, step: &mut F, of: u64, tells: bool) -> Result<Option<Judged>>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        let began = Instant::now();
        let of_training = std::mem::replace(&mut self.sums, Sums::new(self.stores[0].1.device()));
        let kept = self.averages.iter().map(|(_, average)| average.swap_in()).collect::<Result<Vec<_>>>();
        let result = match &kept {
            Ok(_) => self.judge_batches(validation, step, of, tells),
            Err(error) => Err(error.clone()),
        };
        let values = match result {
            Ok(true) => self.judged().await.map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error),
        };
        self.sums = of_training;
        kept?.into_iter().try_for_each(|kept| kept.put_back())?;
        self.validating += began.elapsed();
        values
    }

    /// The numbers of a validation whose batches have been given.
    async fn judged(&mut self) -> Result<Judged> {
        let mut values = self.sums.so_far().await?;
        let figures = self.figures(true).await?;
        values.extend(figures.values());
        values.extend(self.measured(true)?);
        Ok((values, figures))
    }

    /// False if it was broken off.
    fn judge_batches<B, V, F>(&mut self, validation: &mut V, step: &mut F, of: u64, tells: bool) -> Result<bool>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        validation.rewind()?;
        for done in 1..=of {
            if tells && self.is_flagged() {
                validation.rewind()?;
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
        // Whoever has lent it finds it at its first batch, not behind the last.
        validation.rewind()?;
        Ok(true)
    }

    /// Notes that this is the best so far, if it is and there is a checkpoint of the best.
    pub(super) fn consider_best(&mut self, record: &Record, is_validation: bool) -> Result<()> {
        let Some(best) = self.saves.as_ref().and_then(|saves| saves.best.clone()) else { return Ok(()) };
        let event = if is_validation { Event::Validated(record) } else { Event::EpochEnd(record) };
        if let Some(value) = best.look(event, self.at)?
            && best.is_better(value, self.kept.best, 0.0)
        {
            (self.kept.best, self.kept.best_due) = (Some(value), true);
        }
        Ok(())
    }
}

/// Numbers of a validation, under the names that they have beside those of training.
fn of_validation(values: BTreeMap<String, f64>) -> impl Iterator<Item = (String, f64)> {
    values.into_iter().map(|(name, value)| (format!("val_{name}"), value))
}
