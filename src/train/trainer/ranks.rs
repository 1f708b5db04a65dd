//! A fit of several ranks: whose batches are whose, what they agree on, who saves and prints.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use super::batches::Batches;
use super::callback::Event;
use super::options::{Every, NotFinite};
use super::settings::{Place, Trainer};
use crate::distributed::World;
use crate::error::{Error, Result};

/// What a rank can want of all: bits of [`World::wishes`].
pub(super) const STOP: u32 = 1;
pub(super) const TIME: u32 = 2;
pub(super) const ASKED: u32 = 4;
pub(super) const SAVE: u32 = 8;

/// One batch of this rank, and the batches of the others at the same time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Round {
    /// Items of the batches of all ranks in this round.
    pub items: u64,
    /// Batches of the step, and their items.
    pub of: [u64; 2],
    /// True for the last round of a step.
    pub updates: bool,
}

impl Trainer {
    /// Fits together with the other ranks of `world`, each with its own batches: the whole difference to a fit of one.
    ///
    /// All ranks go through the same data in the same order, and rank r takes of each `size` batches in a row the one with the
    /// number r. A step is of one batch of each rank, or of as many in all as [`Trainer::accumulate`] says, a multiple of
    /// the number of ranks. It has the bits of a fit of one rank that is [`distributed`](crate::distributed) and accumulates as
    /// many batches a step, and checkpoints go on with any number of ranks that shares the step out.
    ///
    /// Means in the history are over the items of all ranks. Validations are done by each rank for itself, on all data: the
    /// numbers are the same. Rank 0 alone saves, and shows what callbacks that say so
    /// ([`Callback::is_of_first_rank`](super::Callback::is_of_first_rank)) have to show; the others are called on every rank, so
    /// that what they do to a run is done on all. A stop flag, a limit of time or a callback that ends the fit on one rank ends
    /// it on all, behind the same step. A rank that an epoch's last round has no batch for takes part in its step without one:
    /// its callbacks are told of it, its closure is not called.
    ///
    /// All of it holds for each further fit of the trainer, too.
    #[must_use]
    pub fn distributed(mut self, world: &World) -> Trainer {
        self.world = world.clone();
        self.is_distributed = true;
        let is_new = !self.begun;
        self.unless(
            is_new,
            || "a trainer that has fitted takes part in no other ranks".into(),
            "say it before the first fit",
        )
    }

    /// Ranks.
    pub(super) fn ranks(&self) -> u64 {
        self.world.size() as u64
    }

    /// Batches of a step, those of all ranks.
    pub(super) fn batches_a_step(&self) -> u64 {
        if self.accumulate <= 1 { self.ranks() } else { self.accumulate }
    }

    /// What several ranks cannot do.
    pub(super) fn check_ranks(&self) -> Result<()> {
        if self.world.is_alone() {
            return Ok(());
        }
        let (batches, ranks) = (self.batches_a_step(), self.ranks());
        if batches % ranks != 0 {
            let what = format!("a step of {batches} batches for {ranks} ranks");
            return Err(self.refuse(what, "accumulate a multiple of the number of ranks"));
        }
        if self.halves || matches!(self.not_finite, NotFinite::GoBack(_)) {
            let what = "several ranks halve no batches, and go back to no checkpoint";
            return Err(self.refuse(what, "take smaller batches, and stop or skip where a step is not finite"));
        }
        if matches!(self.validate_every, Every::Time(_)) {
            return Err(self.refuse("validations by the clock, of several ranks", "validate after steps or epochs"));
        }
        Ok(())
    }

    /// Before each fit: makes sure that all ranks fit the same, and shares the batches of these data out.
    pub(super) fn agree(&mut self, train: &mut (impl Batches + ?Sized)) -> Result<()> {
        if self.world.is_alone() {
            return Ok(());
        }
        let text = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or_default().to_string());
        let mut settings: Vec<(String, String)> = self.identity.iter().map(text).collect();
        settings.extend(self.noted.iter().cloned());
        let limit = |limit: Option<u64>| limit.map_or("without end".into(), |limit| limit.to_string());
        settings.push(("epochs".into(), limit(self.epochs)));
        settings.push(("steps".into(), limit(self.steps)));
        let Place { epoch, batch, step, .. } = self.place;
        settings.push(("a place in the run".into(), format!("at epoch {epoch}, batch {batch}, step {step}")));
        if let Some(data) = train.fingerprint() {
            settings.push(("data with the fingerprint".into(), format!("{data:016x}")));
        }
        self.world.agree(&settings)?;
        self.shares_out = train.share_out(self.world.rank(), self.world.size());
        Ok(())
    }

    /// Before the first fit: gives all ranks the weights of rank 0, and lets optimizers step together.
    pub(super) fn join(&mut self) -> Result<()> {
        if !self.is_distributed {
            return Ok(());
        }
        for (_, store) in &self.stores {
            store.broadcast(&self.world)?;
        }
        for (_, optimizer) in &mut self.optimizers {
            optimizer.distribute(&self.world)?;
        }
        self.sums.ranks = Some(self.world.clone()).filter(|world| !world.is_alone());
        Ok(())
    }

    /// The checkpoint that rank 0 goes on from, for all; `None` if it begins anew, or is alone.
    pub(super) fn shared_checkpoint(&self, from: Option<&PathBuf>) -> Result<Option<Vec<u8>>> {
        if self.world.is_alone() {
            return Ok(None);
        }
        let mut bytes = vec![];
        if let Some(path) = from {
            bytes = fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        }
        let bytes = self.world.broadcast(bytes)?;
        Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// The round that comes next: one batch of each rank, as far as there are any.
    pub(super) fn round(&self, train: &(impl Batches + ?Sized)) -> Round {
        let left = self.batches(train).saturating_sub(self.place.batch).max(1);
        let here = self.ranks().min(left);
        // Only the last round of an epoch is not whole, and it ends its step.
        let given = self.gathered * self.ranks();
        let of = (self.batches_a_step() << self.place.halved).min(given + left);
        let of_step = train.items_in(self.place.batch - given.min(self.place.batch), of);
        Round { items: train.items_in(self.place.batch, here), of: [of, of_step], updates: given + here >= of }
    }

    /// True if the round has no batch for this rank.
    ///
    /// # Errors
    /// [`Error::Value`] on every rank if there are several optimizers: which of them are to step is not known without a batch.
    pub(super) fn passes_by(&self, train: &(impl Batches + ?Sized)) -> Result<bool> {
        let left = self.batches(train).saturating_sub(self.place.batch);
        if left < self.ranks() && self.optimizers.len() > 1 {
            let what =
                format!("the last {left} batches of an epoch are for {} ranks, with several optimizers", self.ranks());
            return Err(self.refuse(what, "limit the batches of an epoch to a multiple of the ranks"));
        }
        Ok(self.world.rank() as u64 >= left)
    }

    /// Takes the step of a round without a batch of its own, as the ranks do that have one: what callbacks do when a step begins
    /// is done on all.
    pub(super) fn step_without_batch(&mut self) -> Result<()> {
        if self.gathered == 0 {
            self.emit(Event::StepStart, None)?;
        }
        for (_, optimizer) in &mut self.optimizers {
            while let Err(error) = optimizer.step_with(vec![]) {
                self.refusals.forgive(error, self.not_finite)?;
            }
        }
        self.tell_skipped()
    }

    /// Says what this rank wants before its next step.
    pub(super) fn wish(&self) {
        let since = self.saved.map_or_else(Default::default, |saved| saved.elapsed());
        let every = self.saves.iter().flat_map(|saves| &saves.every);
        let saves = every.filter(|every| matches!(every, Every::Time(_))).any(|every| every.is_due_at_step(0, since));
        let wishes = [
            (self.stop.load(std::sync::atomic::Ordering::Relaxed), STOP),
            (self.time.is_some_and(|time| self.elapsed() >= time), TIME),
            (self.asked.is_some(), ASKED),
            (saves && self.world.is_first(), SAVE),
        ];
        self.world.wish(wishes.iter().filter(|(wants, _)| *wants).fold(0, |bits, (_, bit)| bits | bit));
    }
}
