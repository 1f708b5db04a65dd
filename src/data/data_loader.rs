//! Batches of any data set: loaded and transformed by worker threads, to the same bits with any number of them.
//!
//! What an item becomes depends on (seed, epoch, index) alone, and batches are handed out in the order of the sampler, so
//! neither the number of workers nor a resumed run shows. `workers.rs` has the threads.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::batches::{Position, batches};
use super::collate::{Collator, Stack, With};
use super::dataset::Dataset;
use super::sampler::{InOrder, Sampler, Shuffled};
use super::share::Share;
use super::workers::{Crew, Job, Order};
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Where items come from: a data set, and the changes behind it.
pub(super) trait Source<T>: Send + Sync {
    fn len(&self) -> usize;
    fn load(&self, index: usize, random: &mut Philox) -> Result<T>;
    fn name(&self, index: usize) -> Option<String>;
}

struct Plain<D>(D);

impl<D: Dataset> Source<D::Item> for Plain<D> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn load(&self, index: usize, _: &mut Philox) -> Result<D::Item> {
        self.0.get(index)
    }

    fn name(&self, index: usize) -> Option<String> {
        self.0.name(index)
    }
}

struct Changed<T, F> {
    inner: Arc<dyn Source<T>>,
    change: F,
}

impl<T, U, F: Fn(T, &mut Philox) -> Result<U> + Send + Sync> Source<U> for Changed<T, F> {
    fn len(&self) -> usize {
        self.inner.len()
    }

    fn load(&self, index: usize, random: &mut Philox) -> Result<U> {
        (self.change)(self.inner.load(index, random)?, random)
    }

    fn name(&self, index: usize) -> Option<String> {
        self.inner.name(index)
    }
}

/// An iterator over the batches of a [`Dataset`], one epoch at a time, loaded by threads.
///
/// ```
/// use kiln::data::{self, DataLoader};
///
/// let numbers = data::items((0..100u32).map(|n| (n as f32, n % 10)).collect::<Vec<_>>());
/// let mut loader = DataLoader::new(numbers, 32)
///     .shuffle(42)
///     .map(|(x, label), random| (x + random.normal() as f32, label))
///     .workers(2)
///     .prefetch(2);
/// for _epoch in 0..2 {
///     for batch in loader.by_ref() {
///         let (inputs, labels) = batch?;
///         assert_eq!(inputs.shape, labels.shape);
///     }
/// }
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// It ends after each epoch and then goes on with the next one. Order, chance and bits depend on the seed, the epoch and
/// the number of each item alone: with any number of workers, and from a [`Position`] that was saved within an epoch, the
/// same batches come. The loader is a part of a [`Checkpoint`](crate::train::checkpoint::Checkpoint).
///
/// An item that cannot be loaded, or whose loading panics, ends the epoch with [`Error::Item`], which has its number and
/// name; [`DataLoader::skip_failed`] leaves it out. Dropping the loader ends its threads, and waits for the items that
/// they are at.
pub struct DataLoader<T, C = Stack> {
    source: Arc<dyn Source<T>>,
    collator: Arc<C>,
    sampler: Arc<dyn Sampler>,
    size: usize,
    seed: u64,
    drop_last: bool,
    workers: usize,
    prefetch: usize,
    skip: bool,
    timeout: Option<Duration>,
    share: Share,
    position: Position,
    /// The number of the batch given last.
    last: u64,
    /// The order of an epoch.
    order: Option<(u64, Arc<Order>)>,
    /// A `Crew` of this loader's batches. Without its type, which is known only where items make batches.
    crew: Option<Box<dyn Any + Send>>,
    failed: bool,
    skipped: u64,
    last_skipped: Option<Error>,
}

impl<T: 'static> DataLoader<T> {
    /// Batches of `batch` items in the order of the data set; 0 means all items in one batch.
    ///
    /// It owns the data set; an `Arc` of one is a data set, too.
    pub fn new<D: Dataset<Item = T> + 'static>(dataset: D, batch: usize) -> Self {
        let size = if batch == 0 { dataset.len().max(1) } else { batch };
        DataLoader {
            source: Arc::new(Plain(dataset)),
            collator: Arc::new(Stack),
            sampler: Arc::new(InOrder),
            size,
            seed: 0,
            drop_last: false,
            workers: 0,
            prefetch: 2,
            skip: false,
            timeout: None,
            share: Share::ALL,
            position: Position::default(),
            last: 0,
            order: None,
            crew: None,
            failed: false,
            skipped: 0,
            last_skipped: None,
        }
    }
}

impl<T: 'static, C> DataLoader<T, C> {
    /// Gives all items in another random order each epoch; `seed` is that of [`DataLoader::map`], too.
    #[must_use]
    pub fn shuffle(self, seed: u64) -> Self {
        self.sample(Shuffled, seed)
    }

    /// Gives the items that `sampler` chooses; `seed` is that of [`DataLoader::map`], too.
    #[must_use]
    pub fn sample(mut self, sampler: impl Sampler + 'static, seed: u64) -> Self {
        (self.sampler, self.seed) = (Arc::new(sampler), seed);
        self.forget();
        self
    }

    /// Changes each item. What is random draws from the stream that comes with it, which is one of (seed, epoch, index):
    /// nothing else changes what it gives. An item that comes again in an epoch has another stream.
    ///
    /// Call it before [`DataLoader::collate`]. To change batches, go by `by_ref()`: `loader.by_ref().map(|batch| ..)` is
    /// the method of iterators.
    #[must_use]
    pub fn map<U: 'static>(self, change: impl Fn(T, &mut Philox) -> U + Send + Sync + 'static) -> DataLoader<U> {
        self.try_map(move |item, random| Ok(change(item, random)))
    }

    /// As [`DataLoader::map`], for a change that can fail: [`Error::Data`] takes any text.
    #[must_use]
    pub fn try_map<U: 'static>(
        self,
        change: impl Fn(T, &mut Philox) -> Result<U> + Send + Sync + 'static,
    ) -> DataLoader<U> {
        let source = Arc::new(Changed { inner: self.source.clone(), change });
        self.with(source, Stack)
    }

    /// Makes batches with a closure: for items that are structs, and for other batches than
    /// [`Collate`](super::Collate) makes. It runs on the workers.
    #[must_use]
    pub fn collate<B: 'static>(
        self,
        collate: impl Fn(Vec<T>) -> Result<B> + Send + Sync + 'static,
    ) -> DataLoader<T, With<T, B>> {
        let source = self.source.clone();
        self.with(source, With(Box::new(collate)))
    }

    /// The same settings with other items or batches.
    fn with<U, E>(self, source: Arc<dyn Source<U>>, collator: E) -> DataLoader<U, E> {
        DataLoader {
            source,
            collator: Arc::new(collator),
            sampler: self.sampler,
            size: self.size,
            seed: self.seed,
            drop_last: self.drop_last,
            workers: self.workers,
            prefetch: self.prefetch,
            skip: self.skip,
            timeout: self.timeout,
            share: self.share,
            position: self.position,
            last: self.last,
            order: None,
            crew: None,
            failed: false,
            skipped: 0,
            last_skipped: None,
        }
    }

    /// Threads that load; 0, the default, loads on the thread that asks for the batch.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self.forget();
        self
    }

    /// Batches that each worker may be ahead (default: 2, at least 1). They wait in memory.
    #[must_use]
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = batches.max(1);
        self.forget();
        self
    }

    /// Whether to leave out the last batch of an epoch where it would be smaller than the others (default: keep it).
    #[must_use]
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last = drop;
        self.forget();
        self
    }

    /// Whether to leave out items that cannot be loaded (default: the epoch ends with an error). Batches are smaller
    /// then; one without any item is left out. [`DataLoader::skipped`] counts them.
    #[must_use]
    pub fn skip_failed(mut self, skip: bool) -> Self {
        self.skip = skip;
        self.forget();
        self
    }

    /// How long to wait for a batch of the workers (default: for ever). The error names the items that they are at.
    /// A thread that never ends is left behind when the loader is dropped.
    #[must_use]
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.timeout = Some(longest);
        self
    }

    /// Items that have been left out since the loader was made, in batches that have been given.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Why the last of the items that were left out could not be loaded.
    pub fn last_skipped(&self) -> Option<&Error> {
        self.last_skipped.as_ref()
    }

    /// Number of items of the data set.
    pub fn items(&self) -> usize {
        self.source.len()
    }

    /// Number of items in every epoch: as many as the sampler chooses.
    pub fn items_per_epoch(&self) -> usize {
        self.sampler.items(self.source.len())
    }

    /// Items of a whole batch.
    pub fn batch_size(&self) -> usize {
        self.size
    }

    /// The seed of the order and of the changes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Gives batches of another size; the position, a number of batches, stays as it is.
    pub(crate) fn resize(&mut self, size: usize) {
        self.size = size.max(1);
        self.forget();
    }

    /// Gives one of `count` ranks its batches: of each `count` in a row the one with the number `rank`. All ranks get as many: a
    /// last round that has not one for each is left out. Positions count the batches of all ranks, so one is good for
    /// another number of ranks, too.
    #[must_use]
    pub fn shard(mut self, rank: usize, count: usize) -> Self {
        self.set_share(Share::of(rank, count, true));
        self
    }

    fn set_share(&mut self, share: Share) {
        self.share = share;
        self.forget();
    }

    /// Takes the share of a rank, a last round that is not whole included.
    pub(crate) fn share_out(&mut self, rank: usize, count: usize) {
        self.set_share(Share::of(rank, count, false));
    }

    /// The number of the batch given last.
    pub(crate) fn last_batch(&self) -> u64 {
        self.last
    }

    /// Number of batches in every epoch, those of all ranks.
    pub fn batches_per_epoch(&self) -> u64 {
        batches(self.sampler.items(self.source.len()), self.size, self.drop_last)
    }

    /// What comes next; save it with a checkpoint.
    ///
    /// After the last batch of an epoch, and until the iterator has ended, `batch` is the number of batches.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on from `position`.
    ///
    /// # Errors
    /// [`Error::Value`] if an epoch has fewer batches than `position.batch`; the loader stays where it was.
    #[track_caller]
    pub fn seek(&mut self, position: Position) -> Result<()> {
        self.position = position.within(self.batches_per_epoch(), "DataLoader::seek")?;
        self.forget();
        Ok(())
    }

    /// Ends the threads, and what they have ready.
    fn forget(&mut self) {
        (self.crew, self.failed) = (None, false);
        self.order = None;
    }

    /// The order of the current epoch.
    fn order(&mut self) -> Result<Arc<Order>> {
        let epoch = self.position.epoch;
        if let Some((of, order)) = &self.order
            && *of == epoch
        {
            return Ok(order.clone());
        }
        let length = self.source.len();
        let indices = self.sampler.order(length, self.size, self.seed, epoch)?;
        let wrong = |what| Error::Data { what, next: "correct the sampler" };
        if indices.len() != self.sampler.items(length) {
            let what = format!("a sampler gave {} items, and promised {}", indices.len(), self.sampler.items(length));
            return Err(wrong(what));
        }
        if let Some(index) = indices.iter().find(|&&index| index >= length) {
            return Err(wrong(format!("a sampler gave item {index} of {length}")));
        }
        let order = Arc::new(Order::new(indices, length));
        self.order = Some((epoch, order.clone()));
        Ok(order)
    }
}

impl<T: 'static, C: Collator<T> + Send + Sync + 'static> DataLoader<T, C>
where
    C::Batch: Send + 'static,
{
    fn job(&mut self) -> Result<Job<T, C>> {
        Ok(Job {
            source: self.source.clone(),
            collator: self.collator.clone(),
            order: self.order()?,
            size: self.size,
            seed: self.seed,
            epoch: self.position.epoch,
            batches: self.batches_per_epoch(),
            every: self.share.count,
            skip: self.skip,
        })
    }

    /// The batch with this number, or none if all of its items were left out.
    fn load(&mut self, number: u64) -> Result<Option<C::Batch>> {
        let outcome = if self.workers == 0 {
            self.job()?.run(number, &|| false, &mut |_| {})
        } else {
            if self.crew.is_none() {
                let (workers, ahead) = (self.workers, self.workers.saturating_mul(self.prefetch));
                let crew = Crew::start(self.job()?, number, workers, ahead)?;
                self.crew = Some(Box::new(crew));
            }
            let crew = self.crew.as_mut().and_then(|crew| crew.downcast_mut::<Crew<C::Batch>>());
            crew.ok_or_else(|| Error::internal("workers of another loader"))?.take(number, self.timeout)?
        };
        self.skipped += outcome.skipped.len() as u64;
        if let Some(error) = outcome.skipped.into_iter().next_back() {
            self.last_skipped = Some(error);
        }
        outcome.batch
    }
}

impl<T: 'static, C: Collator<T> + Send + Sync + 'static> Iterator for DataLoader<T, C>
where
    C::Batch: Send + 'static,
{
    type Item = Result<C::Batch>;

    /// After an error the epoch has ended; a later call tries the same batch again.
    fn next(&mut self) -> Option<Result<C::Batch>> {
        if std::mem::take(&mut self.failed) {
            return None;
        }
        let batches = self.batches_per_epoch();
        while let Some(number) = self.share.batch(self.position.batch, batches) {
            match self.load(number) {
                // Another rank would wait for it.
                Ok(None) if self.share != Share::ALL => {
                    self.failed = true;
                    let what = format!("no item of batch {number} could be loaded, and each rank needs one");
                    return Some(Err(Error::Data { what, next: "repair the data, or take larger batches" }));
                }
                Ok(batch) => {
                    self.position.batch = self.share.next(self.position.batch, batches);
                    self.last = number;
                    if let Some(batch) = batch {
                        return Some(Ok(batch));
                    }
                }
                Err(error) => {
                    self.crew = None;
                    self.failed = true;
                    return Some(Err(error));
                }
            }
        }
        self.crew = None;
        self.position = Position { epoch: self.position.epoch.wrapping_add(1), batch: 0 };
        None
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.share.left(self.position.batch, self.batches_per_epoch()) as usize;
        // Batches without items are left out, and an error ends the epoch.
        (0, Some(left))
    }
}
