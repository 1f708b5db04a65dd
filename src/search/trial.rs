//! A trial while it runs.

use std::fmt::Display;

use super::cross::{Scores, folds};
use super::event;
use super::point::Point;
use super::record::{Record, State};
use super::study::Study;
use crate::clock::Instant;
use crate::data::{Dataset, Portion, Split};
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Keeps the seeds of trials apart from every other use of the same seed.
const TRIAL: u64 = 0x7472_6961_6c21_2121;

/// Whether a trial is worth its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a trial that is told to stop goes on unless it looks"]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// It should return; what it returns does not matter.
    Prune,
}

/// A trial that runs. One that is dropped before [`Trial::finish`], by a panic say, is recorded as failed.
#[derive(Debug)]
pub struct Trial<'a> {
    study: &'a mut Study,
    place: usize,
    started: Instant,
    verdict: Verdict,
    is_finished: bool,
}

impl<'a> Trial<'a> {
    pub(super) fn new(study: &'a mut Study, place: usize, started: Instant) -> Trial<'a> {
        Trial { study, place, started, verdict: Verdict::Continue, is_finished: false }
    }

    /// What is recorded of it so far.
    pub fn record(&self) -> &Record {
        &self.study.journal.records[self.place]
    }

    /// Its number in the study, from 0.
    pub fn number(&self) -> u64 {
        self.place as u64
    }

    /// Its settings.
    pub fn point(&self) -> &Point {
        &self.record().point
    }

    /// The value of a uniform or log-uniform parameter.
    ///
    /// # Errors
    /// Those of [`Point::float`].
    pub fn float(&self, name: &str) -> Result<f64> {
        self.point().float(name)
    }

    /// The value of an integer parameter.
    ///
    /// # Errors
    /// Those of [`Point::float`].
    pub fn integer(&self, name: &str) -> Result<i64> {
        self.point().integer(name)
    }

    /// The option of a choice.
    ///
    /// # Errors
    /// Those of [`Point::float`].
    pub fn choice(&self, name: &str) -> Result<&str> {
        self.point().choice(name)
    }

    /// A seed of its own, for initial values and order; a trial that repeats a killed one has the same.
    pub fn seed(&self) -> u64 {
        let mut random = Philox::new(self.study.config.seed ^ TRIAL, self.record().draw);
        u64::from(random.next_u32()) << 32 | u64::from(random.next_u32())
    }

    /// Records a value on the way, and says whether the study's pruner lets it go on. Steps grow; they count from 1
    /// (epochs, folds). A value that is not finite stops the trial.
    ///
    /// # Errors
    /// [`Error::Setting`] for a step that is not above the last one; those of the file.
    pub fn report(&mut self, step: u64, value: f64) -> Result<Verdict> {
        if let Some(&(last, _)) = self.record().reports.last().filter(|last| last.0 >= step) {
            return Err(Error::Setting {
                name: "step".into(),
                value: step.to_string(),
                what: format!("trial {} has reported step {last} before", self.place),
                next: "report steps in their order, each once",
            });
        }
        let (number, place) = (self.number(), self.place);
        let Study { space, journal, .. } = &mut *self.study;
        journal.locked(space, |journal| journal.append(space, &event::report(number, step, value)))?;
        let records = &self.study.journal.records;
        let others: Vec<&Record> = records.iter().filter(|other| other.number != number).collect();
        let prunes = |pruner: &dyn super::Pruner| pruner.prunes(&records[place], &others, self.study.config.goal);
        if !value.is_finite() || self.study.pruner.as_deref().is_some_and(prunes) {
            self.verdict = Verdict::Prune;
        }
        Ok(self.verdict)
    }

    /// Records a number besides the value, for the report.
    ///
    /// # Errors
    /// Those of the file.
    pub fn note(&mut self, name: &str, value: f64) -> Result<()> {
        let note = event::note(self.number(), name, value);
        let Study { space, journal, .. } = &mut *self.study;
        journal.locked(space, |journal| journal.append(space, &note))
    }

    /// Trains and tests in `k` folds, and reports the mean of the scores so far after each, so that a pruner can stop the
    /// rest. Notes the standard deviation of the scores as `deviation`.
    ///
    /// `fit` trains on its first part and returns the score on its second; the third is the number of the fold, from 0.
    ///
    /// # Errors
    /// Those of [`k_fold`](crate::data::k_fold), of `fit`, and of [`Trial::report`].
    pub fn cross_validate<D: Dataset, E: From<Error>>(
        &mut self,
        set: D,
        by: Split<'_>,
        k: usize,
        seed: u64,
        fit: impl FnMut(Portion<D>, Portion<D>, usize) -> Result<f64, E>,
    ) -> Result<Scores, E> {
        let scores =
            folds(set, by, k, seed, fit, |done, scores| Ok(self.report(done, scores.mean())? != Verdict::Prune))?;
        if let Some(deviation) = scores.deviation() {
            self.note("deviation", deviation)?;
        }
        Ok(scores)
    }

    /// Ends the trial with a value, or with an error that is recorded.
    ///
    /// # Errors
    /// Those of the file.
    pub fn finish<E: Display>(mut self, result: Result<f64, E>) -> Result<()> {
        let last = self.record().reports.last().map(|report| report.1);
        let (state, value) = match result {
            Err(error) => (State::Failed(error.to_string()), None),
            Ok(_) if last.is_some_and(|last| !last.is_finite()) => {
                (State::Failed(format!("it reported {}", last.unwrap_or(f64::NAN))), None)
            }
            Ok(_) if self.verdict == Verdict::Prune => (State::Pruned, last),
            Ok(value) if !value.is_finite() => (State::Failed(format!("its value is {value}")), None),
            Ok(value) => (State::Complete, Some(value)),
        };
        self.end(&state, value)
    }

    fn end(&mut self, state: &State, value: Option<f64>) -> Result<()> {
        self.is_finished = true;
        let end = event::end(self.number(), state, value, Some(self.started.elapsed().as_secs_f64()));
        let Study { space, journal, .. } = &mut *self.study;
        journal.locked(space, |journal| journal.append(space, &end))
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Where this fails, the trial counts as killed once the process is gone.
            let _ = self.end(&State::Failed("it was left without a value".into()), None);
        }
    }
}
