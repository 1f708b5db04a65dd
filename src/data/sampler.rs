//! The order of an epoch: which items come, and in what order, as a function of the seed and the epoch.

use std::sync::Arc;

use super::batches::shuffled;
use crate::error::{Error, Result};
use crate::rng::Philox;

/// Keeps what samplers draw apart from every other use of the same seed.
const DRAWN: u64 = 0x7361_6d70_6c65_7273;

/// Chooses the items of each epoch. A function of its arguments alone: workers, resuming and machines change nothing.
pub trait Sampler: Send + Sync {
    /// The numbers of the items of an epoch, each below `length`; batches take `batch` of them at a time.
    ///
    /// # Errors
    /// What does not fit: weights of another number of items.
    fn order(&self, length: usize, batch: usize, seed: u64, epoch: u64) -> Result<Vec<usize>>;

    /// How many items an epoch has, where the data set has `length`.
    fn items(&self, length: usize) -> usize {
        length
    }
}

/// All items in the order of their numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct InOrder;

impl Sampler for InOrder {
    fn order(&self, length: usize, _: usize, _: u64, _: u64) -> Result<Vec<usize>> {
        Ok((0..length).collect())
    }
}

/// All items, in another random order each epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shuffled;

impl Sampler for Shuffled {
    fn order(&self, length: usize, _: usize, seed: u64, epoch: u64) -> Result<Vec<usize>> {
        Ok(shuffled(length, seed, epoch))
    }
}

/// Items drawn with replacement, each as often on average as its weight says.
///
/// PyTorch: `WeightedRandomSampler(weights, count, replacement=True)`.
#[derive(Debug, Clone)]
pub struct Weighted {
    /// Sums of the weights up to each item.
    sums: Arc<[f64]>,
    count: usize,
}

impl Weighted {
    /// `count` items an epoch; a weight an item.
    ///
    /// # Errors
    /// [`Error::Data`] for a weight that is negative or not finite, and if all are zero.
    pub fn new(weights: &[f64], count: usize) -> Result<Weighted> {
        if let Some(index) = weights.iter().position(|weight| !weight.is_finite() || *weight < 0.0) {
            let what = format!("weight {index} is {}", weights[index]);
            return Err(Error::Data { what, next: "pass weights that are finite and not negative" });
        }
        let mut sum = 0.0;
        let sums: Arc<[f64]> = weights
            .iter()
            .map(|weight| {
                sum += weight;
                sum
            })
            .collect();
        if !sum.is_finite() || sum <= 0.0 {
            let what = format!("the {} weights have the sum {sum}", weights.len());
            return Err(Error::Data { what, next: "give one item a weight above 0, and none a huge one" });
        }
        Ok(Weighted { sums, count })
    }

    /// Every class as often on average, whatever its number of items: an epoch of as many draws as there are labels.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no label.
    pub fn balanced(labels: &[u32]) -> Result<Weighted> {
        let mut counts = std::collections::HashMap::new();
        labels.iter().for_each(|label| *counts.entry(label).or_insert(0.0) += 1.0);
        let weights: Vec<f64> = labels.iter().map(|label| 1.0 / counts[label]).collect();
        Weighted::new(&weights, labels.len())
    }
}

impl Sampler for Weighted {
    fn order(&self, length: usize, _: usize, seed: u64, epoch: u64) -> Result<Vec<usize>> {
        if self.sums.len() != length {
            let what = format!("{} weights for {length} items", self.sums.len());
            return Err(Error::Data { what, next: "pass one weight an item" });
        }
        let mut random = Philox::new(seed ^ DRAWN, epoch);
        let total = self.sums[length - 1];
        let draw = |_| {
            let at = random.uniform() * total;
            // The first sum above the draw: an item of weight zero has none of its own.
            self.sums.partition_point(|&sum| sum <= at).min(length - 1)
        };
        Ok((0..self.count).map(draw).collect())
    }

    fn items(&self, _: usize) -> usize {
        self.count
    }
}

/// All items, each batch of items of about the same length: less padding. Batches and items in them come in random order.
///
/// Items are shuffled, cut into runs of `batches` batches, and each run is sorted by length; then whole batches are
/// shuffled. More `batches` mean less padding and less chance.
#[derive(Debug, Clone)]
pub struct Bucketed {
    lengths: Arc<[usize]>,
    batches: usize,
}

impl Bucketed {
    /// `lengths` has the length of each item; `batches` is the size of a run that is sorted, 50 for example.
    pub fn new(lengths: impl Into<Arc<[usize]>>, batches: usize) -> Bucketed {
        Bucketed { lengths: lengths.into(), batches: batches.max(1) }
    }
}

impl Sampler for Bucketed {
    fn order(&self, length: usize, batch: usize, seed: u64, epoch: u64) -> Result<Vec<usize>> {
        if self.lengths.len() != length {
            let what = format!("{} lengths for {length} items", self.lengths.len());
            return Err(Error::Data { what, next: "pass one length an item" });
        }
        let batch = batch.max(1);
        let mut order = shuffled(length, seed, epoch);
        for run in order.chunks_mut(batch.saturating_mul(self.batches)) {
            // Stable: equal lengths stay in random order.
            run.sort_by_key(|&index| self.lengths[index]);
        }
        // The last batch stays where it is if it is smaller than the others: batches are cut by counting.
        let whole = length / batch;
        let places = shuffled(whole, seed ^ DRAWN, epoch);
        let mut mixed: Vec<usize> =
            places.iter().flat_map(|&place| order[place * batch..][..batch].iter().copied()).collect();
        mixed.extend_from_slice(&order[whole * batch..]);
        Ok(mixed)
    }
}

/// One of `count` equal parts of what another sampler gives: item `rank`, `rank + count`, and so on.
///
/// The parts of one epoch share nothing but the items from its start that fill the last round, so that all parts have as
/// many. PyTorch: `DistributedSampler`.
#[derive(Debug, Clone)]
pub struct Sharded<S> {
    inner: S,
    rank: usize,
    count: usize,
}

impl<S: Sampler> Sharded<S> {
    /// Part `rank` of `count`.
    ///
    /// # Errors
    /// [`Error::Data`] unless `rank` is below `count`.
    pub fn new(inner: S, rank: usize, count: usize) -> Result<Self> {
        if rank >= count {
            let what = format!("part {rank} of {count}");
            return Err(Error::Data { what, next: "count parts from 0" });
        }
        Ok(Sharded { inner, rank, count })
    }
}

impl<S: Sampler> Sampler for Sharded<S> {
    fn order(&self, length: usize, batch: usize, seed: u64, epoch: u64) -> Result<Vec<usize>> {
        let whole = self.inner.order(length, batch, seed, epoch)?;
        let own = whole.iter().cycle().skip(self.rank).step_by(self.count);
        Ok(own.take(whole.len().div_ceil(self.count)).copied().collect())
    }

    fn items(&self, length: usize) -> usize {
        self.inner.items(length).div_ceil(self.count)
    }
}
