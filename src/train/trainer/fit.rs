//! The loop: batches to steps, steps to epochs, and what is due between them.
//!
//! Nothing waits for the device but reads of what was computed some steps before, validations and saves, and those at an
//! await.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::batches::{Batches, Validation};
use super::callback::Event;
use super::held::{Held, Judging, Training};
use super::history::{History, Record, Stopped};
use super::options::{MODEL, NotFinite};
use super::ranks::{self, Round};
use super::settings::Trainer;
use super::step::Step;
use crate::clock::Instant;
use crate::data::Position;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::nn::Mode;
use crate::params::ParamStore;
use crate::wait;

/// How a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// It completed a step.
    Step,
    /// The step goes on.
    Part,
    /// It is to be given again, in halves.
    Again,
}

impl Trainer {
    /// Trains. The closure is given each batch, in training and in validation (`()` for none), with what it needs to say
    /// what is to be done with it: [`Step`]. It may borrow or own the model.
    ///
    /// # Errors
    /// [`Error::Value`] for settings that cannot be used, an epoch or a validation without batches; [`Error::Checkpoint`]
    /// where there are checkpoints already, or one that is of another run; [`Error::Callback`]; what the closure returns,
    /// what loading a batch met; [`Error::NonFinite`], and whatever the device refuses. What was trained until then stays,
    /// and [`Trainer::history`] has it.
    pub fn fit<T, V, F>(&mut self, train: T, validation: V, step: F) -> Result<History>
    where
        T: Batches,
        V: Validation<T::Batch>,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()>,
    {
        let held = Held::new();
        let (mut train, mut validation) = (Training(train, &held), Judging(validation, &held));
        self.fit_here(&mut train, &mut validation, &mut held.given(step))
    }

    fn fit_here(
        &mut self,
        train: &mut dyn Batches<Batch = ()>,
        validation: &mut dyn Validation<()>,
        step: &mut dyn FnMut(&mut Step<'_>, ()) -> Result<()>,
    ) -> Result<History> {
        wait::block_on("Trainer::fit", "Trainer::fit_async", self.fit_all(train, validation, step))
    }

    /// [`Trainer::fit`] for programs that must not block. The future can be sent to another thread if data and closure can.
    /// End it by [`Trainer::stop_flag`]: one that is dropped while a checkpoint is written takes its optimizers with it.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub async fn fit_async<T, V, F>(&mut self, mut train: T, mut validation: V, mut step: F) -> Result<History>
    where
        T: Batches,
        V: Validation<T::Batch>,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()>,
    {
        self.fit_all(&mut train, &mut validation, &mut step).await
    }

    async fn fit_all<T, V, F>(&mut self, train: &mut T, validation: &mut V, step: &mut F) -> Result<History>
    where
        T: Batches + ?Sized,
        V: Validation<T::Batch> + ?Sized,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()> + ?Sized,
    {
        let now = Instant::now();
        (self.started, self.validated, self.saved) = (Some(now), Some(now), Some(now));
        self.validating = Duration::ZERO;
        self.world.forget_wishes();
        (self.asked, self.history.stopped, self.history.unfinished) = (None, None, None);
        let result = self.run(train, validation, step).await;
        if let Err(error) = &result {
            // What a rank cannot do the others need not wait for.
            self.world.fail(error);
            // There is one error to return, and it is the first.
            let _ = self.emit(Event::Failed(error), None);
        }
        self.place.seconds = self.elapsed().as_secs_f64();
        self.started = None;
        self.fitted += now.elapsed().saturating_sub(self.validating);
        result.map(|()| self.history.clone())
    }

    async fn run<T, V, F>(&mut self, train: &mut T, validation: &mut V, step: &mut F) -> Result<()>
    where
        T: Batches + ?Sized,
        V: Validation<T::Batch> + ?Sized,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()> + ?Sized,
    {
        self.check(train.batches_per_epoch(), validation.batches())?;
        let resumed = self.begin(train).await?;
        (self.per_epoch, self.validates) = (self.batches(train), validation.batches().is_some());
        self.emit(Event::FitStart { resumed }, None)?;
        for [name, before, now] in std::mem::take(&mut self.changed) {
            self.emit(Event::Changed { name: &name, before: &before, now: &now }, None)?;
        }
        let stopped = loop {
            let at_end = self.place.batch >= self.batches(train);
            if let Some(stopped) = self.over(at_end) {
                break stopped;
            }
            self.epoch(train, validation, step).await?;
        };
        // What became of the last steps is known from here on.
        self.settle().await?;
        self.save_at_end().await?;
        if matches!(stopped, Stopped::Steps | Stopped::Time) && self.place.batch > 0 {
            self.judge_unfinished(validation, step).await?;
        }
        self.history.stopped = Some(stopped);
        let history = self.history.clone();
        self.emit(Event::FitEnd(&history), None)?;
        self.unsaved.take().map_or(Ok(()), Err)
    }

    /// Batches in each epoch.
    pub(super) fn batches(&self, train: &(impl Batches + ?Sized)) -> u64 {
        let all = train.batches_per_epoch();
        self.limit.map_or(all, |limit| all.min(limit << self.place.halved))
    }

    /// Where the loader must stand.
    pub(super) fn position(&self) -> Position {
        Position { epoch: if self.overfits { 0 } else { self.place.epoch }, batch: self.place.batch }
    }

    /// Time of training so far.
    pub(super) fn elapsed(&self) -> Duration {
        let before = Duration::try_from_secs_f64(self.place.seconds).unwrap_or_default();
        before + self.started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// True if the stop flag is set: of several ranks one's, once all know of it.
    pub(super) fn is_flagged(&self) -> bool {
        match self.world.is_alone() {
            true => self.stop.load(Ordering::Relaxed),
            false => self.world.agreed() & ranks::STOP != 0,
        }
    }

    /// Why the fit is over, if it is. Behind the last batch of an epoch the end of the epoch is still due, unless the flag
    /// is set.
    fn over(&self, at_end: bool) -> Option<Stopped> {
        if self.gathered > 0 {
            return None;
        }
        if self.is_flagged() {
            return Some(Stopped::Flag);
        }
        let reached = |limit: Option<u64>, count: u64| limit.is_some_and(|limit| count >= limit);
        if at_end {
            return None;
        }
        let agreed = self.world.agreed();
        match (&self.asked, self.world.is_alone()) {
            (Some(why), true) => return Some(Stopped::Callback(why.clone())),
            (why, false) if agreed & ranks::ASKED != 0 => {
                let why = why.clone().unwrap_or_else(|| "another rank's callback".into());
                return Some(Stopped::Callback(why));
            }
            _ => {}
        }
        if reached(self.epochs, self.place.epoch) {
            return Some(Stopped::Epochs);
        }
        if reached(self.steps, self.place.step) {
            return Some(Stopped::Steps);
        }
        let is_over = match self.world.is_alone() {
            true => self.time.is_some_and(|time| self.elapsed() >= time),
            false => agreed & ranks::TIME != 0,
        };
        is_over.then_some(Stopped::Time)
    }

    /// Goes on with the present epoch, to its end or until the fit is over.
    async fn epoch<T, V, F>(&mut self, train: &mut T, validation: &mut V, step: &mut F) -> Result<()>
    where
        T: Batches + ?Sized,
        V: Validation<T::Batch> + ?Sized,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()> + ?Sized,
    {
        if train.position() != self.position() {
            train.seek(self.position())?;
        }
        if self.place.validation_due && !self.between_steps(validation, step).await? {
            return Ok(());
        }
        if !self.place.begun {
            self.emit(Event::EpochStart, None)?;
            self.place.begun = true;
        }
        loop {
            let at_end = self.place.batch >= self.batches(train);
            if self.over(at_end).is_some() {
                return Ok(());
            }
            if at_end {
                break;
            }
            let round = self.round(train);
            self.wish();
            if self.passes_by(train)? {
                self.step_without_batch()?;
                self.end_round(train, round)?;
            } else {
                let own = Position { batch: self.place.batch + self.world.rank() as u64, ..self.position() };
                if !self.shares_out && train.position() != own {
                    train.seek(own)?;
                }
                let Some(batch) = train.next_batch() else { break };
                self.device().ready().await?;
                if self.give(train, step, batch?, round).await? != Given::Step {
                    continue;
                }
            }
            self.tell_stretches(false).await?;
            if self.place.step.is_multiple_of(self.log_every) {
                self.close_stretch().await?;
            }
            self.emit(Event::StepEnd, None)?;
            let since = self.validated.map_or(Duration::ZERO, |done| done.elapsed());
            self.place.validation_due = self.validates && self.validate_every.is_due_at_step(self.place.step, since);
            if !self.between_steps(validation, step).await? {
                return Ok(());
            }
        }
        self.end_epoch(validation, step).await
    }

    /// What is due between two steps: a validation, a checkpoint. False if the fit is over.
    async fn between_steps<B, V, F>(&mut self, validation: &mut V, step: &mut F) -> Result<bool>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        if self.place.validation_due && self.validate(validation, step).await?.is_none() {
            return Ok(false);
        }
        self.save_if_due(false).await?;
        Ok(true)
    }

    /// Gives the closure a batch of training.
    async fn give<T, F>(&mut self, train: &mut T, step: &mut F, batch: T::Batch, round: Round) -> Result<Given>
    where
        T: Batches + ?Sized,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()> + ?Sized,
    {
        if self.gathered == 0 {
            self.emit(Event::StepStart, None)?;
        }
        self.sums.micro_batch = self.place.batch + self.world.rank() as u64;
        let (items, Round { of: [of, of_step], updates, .. }) = (train.batch_items(), round);
        let share = if of == 1 { 1.0 } else { items as f64 / of_step.max(1) as f64 };
        match self.call(Mode::Train, items, share, updates, |view| step(view, batch)) {
            Ok(()) => {}
            Err(error @ Error::OutOfMemory { .. }) if self.halves => {
                self.sums.undo();
                train.seek(self.position())?;
                if !train.halve()? {
                    return Err(error);
                }
                self.place.halved += 1;
                (self.place.batch, self.gathered) = (2 * self.place.batch, 2 * self.gathered);
                self.per_epoch = self.batches(train);
                self.warn(&format!("batches are halved from here on: {error}"))?;
                return Ok(Given::Again);
            }
            Err(error) => self.refused(error).await?,
        }
        self.tell_skipped()?;
        while let Err(error) = self.sums.end_batch() {
            self.refused(error).await?;
        }
        let items = if self.world.is_alone() { items } else { round.items };
        self.end_round(train, Round { items, ..round })
    }

    /// Counts a round of batches.
    fn end_round(&mut self, train: &(impl Batches + ?Sized), round: Round) -> Result<Given> {
        self.place.batch = match self.world.is_alone() {
            true => train.position().batch,
            false => (self.place.batch + self.ranks()).min(self.batches(train)),
        };
        self.items += round.items;
        if !round.updates {
            self.gathered += 1;
            return Ok(Given::Part);
        }
        self.gathered = 0;
        self.place.step += 1;
        Ok(Given::Step)
    }

    /// Calls the closure, and takes what was wrong with its metrics as its error.
    pub(super) fn call(
        &mut self,
        mode: Mode,
        items: u64,
        share: f64,
        updates: bool,
        closure: impl FnOnce(&mut Step<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut view = Step {
            mode,
            epoch: self.place.epoch,
            number: self.place.step,
            items: items as f64,
            share,
            updates,
            device: self.stores[0].1.device(),
            sums: &mut self.sums,
            optimizers: &mut self.optimizers,
            not_finite: self.not_finite,
            refusals: &mut self.refusals,
            problem: None,
        };
        closure(&mut view)?;
        view.problem.take().map_or(Ok(()), Err)
    }

    /// Ends a stretch of metrics, with what the host knows of its end.
    async fn close_stretch(&mut self) -> Result<()> {
        let mut known = self.rates();
        if self.norms {
            known.extend(self.gradient_norms().await?);
        }
        self.sums.close(self.place.epoch, self.place.step, known);
        Ok(())
    }

    /// The learning rates, by name.
    fn rates(&self) -> BTreeMap<String, f64> {
        let name = |name: &str, what: &str| if name == MODEL { what.into() } else { format!("{name}_{what}") };
        self.optimizers.iter().map(|(own, optimizer)| (name(own, "lr"), optimizer.lr())).collect()
    }

    /// The norms of the gradients at the last step, by name.
    async fn gradient_norms(&mut self) -> Result<BTreeMap<String, f64>> {
        let name = |name: &str| if name == MODEL { "gradient_norm".into() } else { format!("{name}_gradient_norm") };
        // Nobody else locks it: an optimizer can be sent, and need not be shared.
        let optimizers = Mutex::new(&mut self.optimizers);
        wait::unblocked(|| {
            let optimizers = optimizers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            optimizers.iter().map(|(own, optimizer)| Ok((name(own), optimizer.gradient_norm()?))).collect()
        })
        .await
    }

    fn device(&self) -> &Device {
        self.stores[0].1.device()
    }

    /// Reads the stretches that ended long enough ago, or all of them, and tells callbacks.
    async fn tell_stretches(&mut self, all: bool) -> Result<()> {
        while let Some(stretch) = self.sums.next_closed(self.place.step, all) {
            match self.sums.take(&stretch).await {
                Ok(values) => {
                    let (epoch, step, seconds) = (stretch.epoch, stretch.step, self.elapsed().as_secs_f64());
                    self.emit(Event::Logged(&Record { epoch, step, values, seconds }), None)?;
                }
                Err(error) => {
                    self.sums.put_back(stretch);
                    self.refused(error).await?;
                }
            }
        }
        Ok(())
    }

    /// The end of an epoch: its numbers, its validation, its checkpoint. Broken off in the validation it is done anew later.
    async fn end_epoch<B, V, F>(&mut self, validation: &mut V, step: &mut F) -> Result<()>
    where
        V: Validation<B> + ?Sized,
        F: FnMut(&mut Step<'_>, B) -> Result<()> + ?Sized,
    {
        if self.gathered > 0 {
            // The last batches of the epoch were left out: what has been gathered makes a step.
            for (_, optimizer) in &mut self.optimizers {
                optimizer.step_with(vec![])?;
            }
            (self.gathered, self.place.step) = (0, self.place.step + 1);
        }
        self.close_stretch().await?;
        self.settle().await?;
        self.tell_stretches(true).await?;
        let mut validated = None;
        if self.validates && self.validate_every.is_due_at_epoch(self.place.epoch + 1) {
            validated = self.validate(validation, step).await?;
            if validated.is_none() {
                return Ok(());
            }
        }
        let mut values = self.sums.end_epoch();
        values.extend(self.figures(false).await?.values());
        self.sums.streams.reset();
        values.extend(self.measured(false)?);
        values.extend(self.rates());
        values.extend(validated.into_iter().flat_map(|record| record.values));
        let record = self.record(values);
        self.history.epochs.push(record.clone());
        self.consider_best(&record, false)?;
        self.emit(Event::EpochEnd(&record), None)?;
        self.place.epoch += 1;
        (self.place.batch, self.place.begun) = (0, false);
        self.save_if_due(true).await
    }

    /// Numbers of this moment.
    pub(super) fn record(&self, values: BTreeMap<String, f64>) -> Record {
        Record { epoch: self.place.epoch, step: self.place.step, values, seconds: self.elapsed().as_secs_f64() }
    }

    /// Goes on after an error, if it is a step that is not finite and the policy allows it.
    pub(super) async fn refused(&mut self, error: Error) -> Result<()> {
        let is_refusal = matches!(error, Error::NonFinite { .. } | Error::LossScale { .. });
        match self.not_finite {
            NotFinite::GoBack(most) if is_refusal && self.place.went_back < most && self.saved_at.is_some() => {
                let path = self.saves.as_ref().map_or(PathBuf::new(), |saves| saves.last_path().into());
                self.place.went_back += 1;
                self.refusals.count += 1;
                self.refusals.untold.push(error);
                self.sums.undo();
                self.load_weights(path).await?;
            }
            policy => self.refusals.forgive(error, policy)?,
        }
        self.tell_skipped()
    }

    /// Waits, at an await, until all steps have been done and their failures are known.
    pub(super) async fn settle(&mut self) -> Result<()> {
        loop {
            let stores: Vec<ParamStore> = self.stores.iter().map(|(_, store)| store.clone()).collect();
            let settle = move || {
                stores.iter().try_for_each(|store| {
                    store.device().finish()?;
                    store.settled()
                })
            };
            match wait::unblocked(settle).await {
                Ok(()) => return Ok(()),
                Err(error) => self.refused(error).await?,
            }
        }
    }
}
