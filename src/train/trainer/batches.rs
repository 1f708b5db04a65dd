//! Where batches come from: the loaders of `kiln::data`, numbers alone, or a struct of your own.

use crate::data::{Batch, Collator, DataLoader, Loader, Position};
use crate::error::{Error, Result};

/// Something that gives batches, epoch by epoch, and can be set to any of them.
///
/// [`Loader`] and [`DataLoader`] do, and [`Rounds`], which gives numbers to those whose data come from elsewhere: a game, a
/// generator, a queue. A mutable reference to one is one, too.
pub trait Batches {
    /// What the training closure is given.
    type Batch;

    /// The next batch of this epoch; `None` behind the last one, and then those of the next epoch.
    fn next_batch(&mut self) -> Option<Result<Self::Batch>>;

    /// Batches in every epoch.
    fn batches_per_epoch(&self) -> u64;

    /// What comes next. `batch` is the number of batches behind the last one of an epoch.
    fn position(&self) -> Position;

    /// Goes on from a position.
    ///
    /// # Errors
    /// What is wrong with it: an epoch that has fewer batches.
    fn seek(&mut self, position: Position) -> Result<()>;

    /// Items of the last batch given: by how much it counts in the means over an epoch. 1 by default.
    fn batch_items(&self) -> u64 {
        1
    }

    /// Items of so many batches of an epoch from batch `first` on. One a batch by default.
    fn items_in(&self, first: u64, batches: u64) -> u64 {
        let _ = first;
        batches
    }

    /// What must be the same when a run is resumed: names, and what stands behind them. Nothing by default.
    fn identity(&self) -> Vec<(&'static str, String)> {
        vec![]
    }

    /// A number that the data decide, if that is known: ranks of a fit must have the same. `None` by default.
    fn fingerprint(&self) -> Option<u64> {
        None
    }

    /// Gives of each `count` batches in a row the one with the number `rank` from now on, while positions count all of them; an
    /// epoch that ends within a round has none for ranks that it does not reach. False (the default) if it cannot: a fit of
    /// several ranks then seeks each of its batches.
    fn share_out(&mut self, rank: usize, count: usize) -> bool {
        let _ = (rank, count);
        false
    }

    /// Gives batches of half the size from now on, two for each of the present ones, from the same item on. False (the
    /// default) if it cannot: a batch has an odd number of items, or one.
    ///
    /// # Errors
    /// What going on from there met.
    fn halve(&mut self) -> Result<bool> {
        Ok(false)
    }
}

impl<B: Batches + ?Sized> Batches for &mut B {
    type Batch = B::Batch;

    fn next_batch(&mut self) -> Option<Result<B::Batch>> {
        (**self).next_batch()
    }

    fn batches_per_epoch(&self) -> u64 {
        (**self).batches_per_epoch()
    }

    fn position(&self) -> Position {
        (**self).position()
    }

    fn seek(&mut self, position: Position) -> Result<()> {
        (**self).seek(position)
    }

    fn batch_items(&self) -> u64 {
        (**self).batch_items()
    }

    fn items_in(&self, first: u64, batches: u64) -> u64 {
        (**self).items_in(first, batches)
    }

    fn identity(&self) -> Vec<(&'static str, String)> {
        (**self).identity()
    }

    fn fingerprint(&self) -> Option<u64> {
        (**self).fingerprint()
    }

    fn share_out(&mut self, rank: usize, count: usize) -> bool {
        (**self).share_out(rank, count)
    }

    fn halve(&mut self) -> Result<bool> {
        (**self).halve()
    }
}

/// Items of so many batches of `size` from batch `first` on, where an epoch has `items`.
fn items_in(first: u64, batches: u64, size: usize, items: usize) -> u64 {
    let (size, items) = (size as u64, items as u64);
    size.saturating_mul(batches).min(items.saturating_sub(size.saturating_mul(first)))
}

/// What says whose data a loader gives.
fn identity(what: &'static str, items: usize, size: usize, seed: Option<u64>) -> Vec<(&'static str, String)> {
    let seed = seed.map_or("none".into(), |seed| seed.to_string());
    vec![(what, items.to_string()), ("batch size", size.to_string()), ("seed of the order", seed)]
}

impl Batches for Loader<'_> {
    type Batch = Batch;

    fn next_batch(&mut self) -> Option<Result<Batch>> {
        self.next().map(Ok)
    }

    fn batches_per_epoch(&self) -> u64 {
        Loader::batches_per_epoch(self)
    }

    fn position(&self) -> Position {
        Loader::position(self)
    }

    fn seek(&mut self, position: Position) -> Result<()> {
        Loader::seek(self, position)
    }

    fn batch_items(&self) -> u64 {
        self.items_in(self.last_batch(), 1)
    }

    fn items_in(&self, first: u64, batches: u64) -> u64 {
        items_in(first, batches, self.batch_size(), Loader::items(self))
    }

    /// That of the images' bits and labels.
    fn fingerprint(&self) -> Option<u64> {
        Some(self.images().fingerprint())
    }

    fn share_out(&mut self, rank: usize, count: usize) -> bool {
        Loader::share_out(self, rank, count);
        true
    }

    fn identity(&self) -> Vec<(&'static str, String)> {
        identity("training images", Loader::items(self), self.batch_size(), self.seed())
    }

    fn halve(&mut self) -> Result<bool> {
        let (size, position) = (self.batch_size(), Loader::position(self));
        if size < 2 || size % 2 == 1 {
            return Ok(false);
        }
        self.resize(size / 2);
        let batch = (2 * position.batch).min(Loader::batches_per_epoch(self));
        Loader::seek(self, Position { batch, ..position })?;
        Ok(true)
    }
}

impl<T: 'static, C: Collator<T> + Send + Sync + 'static> Batches for DataLoader<T, C>
where
    C::Batch: Send + 'static,
{
    type Batch = C::Batch;

    fn next_batch(&mut self) -> Option<Result<C::Batch>> {
        self.next()
    }

    fn batches_per_epoch(&self) -> u64 {
        DataLoader::batches_per_epoch(self)
    }

    fn position(&self) -> Position {
        DataLoader::position(self)
    }

    fn seek(&mut self, position: Position) -> Result<()> {
        DataLoader::seek(self, position)
    }

    /// Items that could not be loaded and were left out count, too.
    fn batch_items(&self) -> u64 {
        self.items_in(self.last_batch(), 1)
    }

    fn items_in(&self, first: u64, batches: u64) -> u64 {
        items_in(first, batches, self.batch_size(), self.items_per_epoch())
    }

    fn share_out(&mut self, rank: usize, count: usize) -> bool {
        DataLoader::share_out(self, rank, count);
        true
    }

    fn identity(&self) -> Vec<(&'static str, String)> {
        identity("training items", DataLoader::items(self), self.batch_size(), Some(self.seed()))
    }

    fn halve(&mut self) -> Result<bool> {
        let (size, position) = (self.batch_size(), DataLoader::position(self));
        if size < 2 || size % 2 == 1 {
            return Ok(false);
        }
        self.resize(size / 2);
        let batch = (2 * position.batch).min(DataLoader::batches_per_epoch(self));
        DataLoader::seek(self, Position { batch, ..position })?;
        Ok(true)
    }
}

/// Numbers instead of data: so many an epoch, each counted on through all epochs.
///
/// ```
/// use kiln::train::{Batches, Rounds};
///
/// let mut rounds = Rounds::new(2);
/// let epoch = |rounds: &mut Rounds| std::iter::from_fn(|| rounds.next_batch()).map(|n| n.unwrap()).collect::<Vec<_>>();
/// assert_eq!(epoch(&mut rounds), [0, 1]);
/// assert_eq!(epoch(&mut rounds), [2, 3]);
/// ```
#[derive(Debug, Clone)]
pub struct Rounds {
    per_epoch: u64,
    position: Position,
}

impl Rounds {
    /// `per_epoch` numbers an epoch.
    pub fn new(per_epoch: u64) -> Rounds {
        Rounds { per_epoch, position: Position::default() }
    }
}

impl Batches for Rounds {
    type Batch = u64;

    fn next_batch(&mut self) -> Option<Result<u64>> {
        let Position { epoch, batch } = self.position;
        if batch >= self.per_epoch {
            self.position = Position { epoch: epoch + 1, batch: 0 };
            return None;
        }
        self.position.batch += 1;
        Some(Ok(epoch * self.per_epoch + batch))
    }

    fn batches_per_epoch(&self) -> u64 {
        self.per_epoch
    }

    fn position(&self) -> Position {
        self.position
    }

    fn seek(&mut self, position: Position) -> Result<()> {
        if position.batch > self.per_epoch {
            let what = format!("round {} of an epoch that has {}", position.batch, self.per_epoch);
            return Err(Error::Data { what, next: "use as many rounds an epoch as the position was saved with" });
        }
        self.position = position;
        Ok(())
    }

    fn identity(&self) -> Vec<(&'static str, String)> {
        vec![("rounds an epoch", self.per_epoch.to_string())]
    }
}

/// Batches to judge a model by, or `()` for none.
pub trait Validation<B> {
    /// The next batch, from the start behind the last one.
    fn next_batch(&mut self) -> Option<Result<B>>;

    /// Goes to the first batch.
    ///
    /// # Errors
    /// As [`Batches::seek`].
    fn rewind(&mut self) -> Result<()>;

    /// Batches in all; `None` if there are no data for validation.
    fn batches(&self) -> Option<u64>;

    /// Items of the last batch given.
    fn last_items(&self) -> u64;
}

impl<V: Batches> Validation<V::Batch> for V {
    fn next_batch(&mut self) -> Option<Result<V::Batch>> {
        Batches::next_batch(self)
    }

    /// The same epoch each time: a loader that shuffles or augments gives the same again.
    fn rewind(&mut self) -> Result<()> {
        self.seek(Position::default())
    }

    fn batches(&self) -> Option<u64> {
        Some(self.batches_per_epoch())
    }

    fn last_items(&self) -> u64 {
        Batches::batch_items(self)
    }
}

impl<B> Validation<B> for () {
    fn next_batch(&mut self) -> Option<Result<B>> {
        None
    }

    fn rewind(&mut self) -> Result<()> {
        Ok(())
    }

    fn batches(&self) -> Option<u64> {
        None
    }

    fn last_items(&self) -> u64 {
        0
    }
}
