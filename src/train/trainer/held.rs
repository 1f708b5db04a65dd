//! Data and closures of any types behind one: the loop of a fit is compiled once, in this crate, and not anew in every program for
//! each closure.
//!
//! A batch is held here from where it is loaded until the closure is called, and the loop is told that there is one.

use std::cell::RefCell;

use super::batches::{Batches, Validation};
use super::step::Step;
use crate::data::Position;
use crate::error::{Error, Result};

/// The batch that has been loaded and not yet been given.
pub(super) struct Held<B>(RefCell<Option<B>>);

impl<B> Held<B> {
    pub fn new() -> Held<B> {
        Held(RefCell::new(None))
    }

    fn hold(&self, batch: Option<Result<B>>) -> Option<Result<()>> {
        Some(batch?.map(|batch| drop(self.0.replace(Some(batch)))))
    }

    /// `closure`, given the batch that is held.
    pub fn given<'a>(
        &'a self,
        mut closure: impl FnMut(&mut Step<'_>, B) -> Result<()> + 'a,
    ) -> impl FnMut(&mut Step<'_>, ()) -> Result<()> + 'a {
        move |step, ()| match self.0.take() {
            Some(batch) => closure(step, batch),
            None => Err(Error::internal("the closure is called without a batch")),
        }
    }
}

/// Data of training whose batches are held.
pub(super) struct Training<'a, T: Batches>(pub T, pub &'a Held<T::Batch>);

impl<T: Batches> Batches for Training<'_, T> {
    type Batch = ();

    fn next_batch(&mut self) -> Option<Result<()>> {
        self.1.hold(self.0.next_batch())
    }

    fn batches_per_epoch(&self) -> u64 {
        self.0.batches_per_epoch()
    }

    fn position(&self) -> Position {
        self.0.position()
    }

    fn seek(&mut self, position: Position) -> Result<()> {
        self.0.seek(position)
    }

    fn batch_items(&self) -> u64 {
        self.0.batch_items()
    }

    fn items_in(&self, first: u64, batches: u64) -> u64 {
        self.0.items_in(first, batches)
    }

    fn identity(&self) -> Vec<(&'static str, String)> {
        self.0.identity()
    }

    fn fingerprint(&self) -> Option<u64> {
        self.0.fingerprint()
    }

    fn share_out(&mut self, rank: usize, count: usize) -> bool {
        self.0.share_out(rank, count)
    }

    fn halve(&mut self) -> Result<bool> {
        self.0.halve()
    }
}

/// Data of a validation whose batches are held.
pub(super) struct Judging<'a, V, B>(pub V, pub &'a Held<B>);

impl<B, V: Validation<B>> Validation<()> for Judging<'_, V, B> {
    fn next_batch(&mut self) -> Option<Result<()>> {
        self.1.hold(self.0.next_batch())
    }

    fn rewind(&mut self) -> Result<()> {
        self.0.rewind()
    }

    fn batches(&self) -> Option<u64> {
        self.0.batches()
    }

    fn last_items(&self) -> u64 {
        self.0.last_items()
    }
}
