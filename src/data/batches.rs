//! Batches of a data set, in an order that is a pure function of a seed and the epoch.
//!
//! The order of an epoch is made from nothing but (seed, epoch), so a [`Position`] of two numbers is all that a
//! checkpoint needs to continue a run with the very batch that would have come next.

use std::panic::Location;

use super::images::Images;
use super::share::Share;
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Keeps the shuffling apart from every other use of the same seed (initial values, dropout).
const ORDER: u64 = 0x6f72_6465_7220_6f66;

/// Some images of a data set, copied one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The images' values, in the layout of `shape`.
    pub images: Vec<f32>,
    /// The class of each image.
    pub labels: Vec<u32>,
    /// Images, channels, height, width.
    pub shape: [usize; 4],
    /// Where each image is in the data set.
    pub indices: Vec<usize>,
}

impl Batch {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image; a [`Loader`] makes no such batch.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// The batch that a [`Loader`] gives next. The start is `Position::default()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Batches already given in this pass.
    pub batch: u64,
}

impl Position {
    /// Itself, or what `op` says where an epoch has fewer batches.
    #[track_caller]
    pub(super) fn within(self, batches: u64, op: &'static str) -> Result<Position> {
        if self.batch <= batches {
            return Ok(self);
        }
        Err(Error::Value {
            op,
            at: Location::caller(),
            what: format!("batch {} of an epoch that has {batches}", self.batch),
            next: "use the data set and the batch size that the position was saved with",
        })
    }
}

/// Number of batches of `size` that so many items make.
pub(super) fn batches(items: usize, size: usize, drop_last: bool) -> u64 {
    (if drop_last { items / size } else { items.div_ceil(size) }) as u64
}

/// An iterator over the batches of a [`Images`], one epoch at a time.
///
/// It ends after each epoch and then goes on with the next one, in a new order if it shuffles:
///
/// ```
/// let digits = kiln::data::digits().train;
/// let mut loader = digits.batches(64).shuffle(42);
/// for epoch in 0..2 {
///     assert_eq!(loader.position().epoch, epoch);
///     for batch in loader.by_ref() {
///         assert_eq!(batch.shape[1..], [1, 8, 8]);
///     }
/// }
/// ```
///
/// To resume, make a loader with the same data, size and settings and [`seek`](Loader::seek) to the position saved.
#[derive(Debug, Clone)]
pub struct Loader<'a> {
    dataset: &'a Images,
    size: usize,
    seed: Option<u64>,
    drop_last: bool,
    share: Share,
    position: Position,
    /// The number of the batch given last.
    last: u64,
    /// The shuffled order, and the epoch that it belongs to.
    order: Option<(u64, Vec<usize>)>,
}

impl<'a> Loader<'a> {
    pub(super) fn new(dataset: &'a Images, size: usize) -> Self {
        let size = if size == 0 { dataset.len().max(1) } else { size };
        let (drop_last, share, position) = (false, Share::ALL, Position::default());
        Loader { dataset, size, seed: None, drop_last, share, position, last: 0, order: None }
    }

    /// Gives the images in a random order, another one each epoch. The order of epoch e depends on `seed` and e only.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self.order = None;
        self
    }

    /// Whether to leave out the last batch of an epoch where it would be smaller than the others (default: keep it).
    ///
    /// With fewer images than one batch takes, an epoch then has no batch at all.
    #[must_use]
    pub fn drop_last(mut self, drop: bool) -> Self {
        self.drop_last = drop;
        self
    }

    /// Gives one of `count` ranks its batches: of each `count` in a row the one with the number `rank`. All ranks get as many: a
    /// last round that has not one for each is left out. Positions count the batches of all ranks, so one is good for
    /// another number of ranks, too.
    #[must_use]
    pub fn shard(mut self, rank: usize, count: usize) -> Self {
        self.set_share(Share::of(rank, count, true));
        self
    }

    /// The data set.
    pub(crate) fn images(&self) -> &Images {
        self.dataset
    }

    pub(super) fn set_share(&mut self, share: Share) {
        self.share = share;
    }

    /// Takes the share of a rank, a last round that is not whole included.
    pub(crate) fn share_out(&mut self, rank: usize, count: usize) {
        self.share = Share::of(rank, count, false);
    }

    /// The number of the batch given last.
    pub(crate) fn last_batch(&self) -> u64 {
        self.last
    }

    /// Number of batches in every epoch, those of all ranks.
    pub fn batches_per_epoch(&self) -> u64 {
        batches(self.dataset.len(), self.size, self.drop_last)
    }

    /// Number of images of the data set.
    pub fn items(&self) -> usize {
        self.dataset.len()
    }

    /// Images of a whole batch.
    pub fn batch_size(&self) -> usize {
        self.size
    }

    /// The seed of the order, if it shuffles.
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Gives batches of another size; the position, a number of batches, stays as it is.
    pub(crate) fn resize(&mut self, size: usize) {
        self.size = size.max(1);
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
        self.position = position.within(self.batches_per_epoch(), "Loader::seek")?;
        Ok(())
    }

    /// Indices of images `start..end` in the order of the current epoch.
    fn indices(&mut self, start: usize, end: usize) -> Vec<usize> {
        let Some(seed) = self.seed else {
            return (start..end).collect();
        };
        let epoch = self.position.epoch;
        let (_, order) = match self.order.take() {
            Some(order) if order.0 == epoch => self.order.insert(order),
            _ => self.order.insert((epoch, shuffled(self.dataset.len(), seed, epoch))),
        };
        order[start..end].to_vec()
    }
}

impl Iterator for Loader<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let batches = self.batches_per_epoch();
        let Some(batch) = self.share.batch(self.position.batch, batches) else {
            self.position = Position { epoch: self.position.epoch.wrapping_add(1), batch: 0 };
            return None;
        };
        // No overflow: the batch is one of the epoch's, so it starts inside the data set.
        let start = batch as usize * self.size;
        let end = self.dataset.len().min(start.saturating_add(self.size));
        let indices = self.indices(start, end);
        self.position.batch = self.share.next(self.position.batch, batches);
        self.last = batch;

        let [channels, height, width] = self.dataset.shape();
        let pixels = self.dataset.pixels();
        let mut images = Vec::with_capacity(indices.len() * pixels);
        for &index in &indices {
            images.extend_from_slice(&self.dataset.images()[index * pixels..][..pixels]);
        }
        let labels = indices.iter().map(|&index| self.dataset.labels()[index]).collect();
        Some(Batch { images, labels, shape: [indices.len(), channels, height, width], indices })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.share.left(self.position.batch, self.batches_per_epoch()) as usize;
        (left, Some(left))
    }
}

/// A permutation of `0..length` (Fisher and Yates, from the end).
pub(super) fn shuffled(length: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = Philox::new(seed ^ ORDER, epoch);
    let mut order: Vec<usize> = (0..length).collect();
    for last in (1..length).rev() {
        // 64 random bits: the bias of taking the high part of the product is below length / 2^64.
        let word = u64::from(random.next_u32()) << 32 | u64::from(random.next_u32());
        let chosen = (u128::from(word) * (last as u128 + 1)) >> 64;
        order.swap(last, chosen as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `length` images of two pixels, each of which tells its index.
    fn numbered(length: usize) -> Images {
        let images = (0..length).flat_map(|index| [index as f32, -(index as f32)]).collect();
        Images::new("numbered", images, (0..length as u32).collect(), [1, 1, 2], length.max(1)).unwrap()
    }

    fn epoch_of(loader: &mut Loader) -> Vec<usize> {
        loader.by_ref().flat_map(|batch| batch.indices).collect()
    }

    #[test]
    fn without_shuffling_the_images_come_in_order() {
        assert_eq!(epoch_of(&mut numbered(7).batches(3)), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_batch_holds_the_images_and_labels_of_its_indices() {
        for batch in numbered(7).batches(3).shuffle(1) {
            let images: Vec<f32> = batch.indices.iter().flat_map(|&index| [index as f32, -(index as f32)]).collect();
            let labels: Vec<u32> = batch.indices.iter().map(|&index| index as u32).collect();
            assert_eq!((batch.images, batch.labels), (images, labels));
            assert_eq!(batch.shape, [batch.indices.len(), 1, 1, 2]);
        }
    }

    #[test]
    fn the_partial_last_batch_is_kept_by_default() {
        let sizes: Vec<usize> = numbered(7).batches(3).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [3, 3, 1]);
    }

    #[test]
    fn the_partial_last_batch_is_left_out_on_request() {
        let sizes: Vec<usize> = numbered(7).batches(3).drop_last(true).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [3, 3]);
    }

    #[test]
    fn a_full_last_batch_is_never_left_out() {
        assert_eq!(numbered(6).batches(3).drop_last(true).count(), 2);
    }

    #[test]
    fn a_batch_size_of_0_means_everything_at_once() {
        let sizes: Vec<usize> = numbered(7).batches(0).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [7]);
    }

    #[test]
    fn the_largest_batch_size_does_not_overflow() {
        assert_eq!(numbered(7).batches(usize::MAX).count(), 1);
    }

    #[test]
    fn an_empty_dataset_gives_no_batch() {
        assert_eq!(numbered(0).batches(0).shuffle(1).count(), 0);
    }

    #[test]
    fn every_epoch_gives_every_image_once() {
        let set = numbered(101);
        let mut loader = set.batches(8).shuffle(3);
        for _ in 0..3 {
            let mut seen = epoch_of(&mut loader);
            seen.sort_unstable();
            assert_eq!(seen, (0..101).collect::<Vec<_>>());
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let set = numbered(101);
        let mut loader = set.batches(8).shuffle(3);
        let (first, second) = (epoch_of(&mut loader), epoch_of(&mut loader));
        assert_ne!(first, second);
        assert_ne!(first, epoch_of(&mut set.batches(8).shuffle(4)));
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_and_not_on_the_batch_size() {
        let set = numbered(101);
        assert_eq!(epoch_of(&mut set.batches(8).shuffle(3)), epoch_of(&mut set.batches(5).shuffle(3)));
    }

    #[test]
    fn the_order_is_the_same_on_every_machine() {
        // From an implementation of Philox and of the shuffle in another language.
        assert_eq!(shuffled(10, 42, 0), [4, 1, 6, 9, 7, 8, 3, 5, 2, 0]);
        assert_eq!(shuffled(10, 42, (3 << 32) + 1), [1, 9, 3, 2, 4, 5, 7, 0, 6, 8]);
    }

    #[test]
    fn every_image_comes_first_equally_often() {
        let mut first = [0u32; 5];
        (0..5000).for_each(|epoch| first[shuffled(5, 9, epoch)[0]] += 1);
        // Four standard deviations of a binomial count with mean 1000.
        assert!(first.iter().all(|&count| count.abs_diff(1000) < 4 * 29), "{first:?}");
    }

    #[test]
    fn a_loader_that_seeks_gives_what_the_other_would_have_given_next() {
        let set = numbered(23);
        let mut whole = set.batches(4).shuffle(5);
        epoch_of(&mut whole);
        whole.by_ref().take(2).for_each(drop);
        assert_eq!(whole.position(), Position { epoch: 1, batch: 2 });

        let mut resumed = set.batches(4).shuffle(5);
        resumed.seek(whole.position()).unwrap();
        for _ in 0..20 {
            assert_eq!(resumed.next(), whole.next());
        }
    }

    #[test]
    fn a_loader_saved_at_the_end_of_an_epoch_first_ends_that_epoch() {
        let set = numbered(8);
        let mut resumed = set.batches(4).shuffle(5);
        resumed.seek(Position { epoch: 6, batch: 2 }).unwrap();
        assert_eq!(resumed.next(), None);
        assert_eq!(resumed.position(), Position { epoch: 7, batch: 0 });
    }

    #[test]
    fn seeking_beyond_the_epoch_is_an_error_and_moves_nothing() {
        let set = numbered(8);
        let mut loader = set.batches(4);
        let error = loader.seek(Position { epoch: 0, batch: 3 }).unwrap_err();
        assert!(error.to_string().contains("batch 3 of an epoch that has 2"), "{error}");
        assert_eq!(loader.position(), Position::default());
    }

    #[test]
    fn the_size_hint_counts_what_is_left_of_the_epoch() {
        let set = numbered(7);
        let mut loader = set.batches(3);
        loader.next();
        assert_eq!(loader.size_hint(), (2, Some(2)));
    }
}
