//! Parts of a data set: at random, by class, by group, in folds; windows over what lies side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batches::shuffled;
use super::dataset::{Dataset, Subset, beyond};
use crate::error::{Error, Result};

/// Keeps splits apart from the order of epoch 0 under the same seed.
const SPLIT: u64 = 0x7370_6c69_7473_2121;

/// By what items are told apart when a data set is cut into parts.
#[derive(Debug, Clone, Copy)]
pub enum Split<'a> {
    /// Not at all: each item for itself.
    Random,
    /// By class (one an item): each part has about the same share of every class, and at least one item of it.
    Stratified(&'a [u32]),
    /// By group (one an item): a patient, a writer. All items of a group are in the same part.
    Groups(&'a [u32]),
}

/// A part of a data set that shares it with the other parts.
pub type Portion<D> = Subset<Arc<D>>;

/// Cuts a data set into parts of these shares, which add up to at most 1; what is left is in no part.
///
/// ```
/// use kiln::data::{self, Dataset, Split};
///
/// let numbers = data::items((0..100u32).collect::<Vec<_>>());
/// let parts = data::split(numbers, Split::Random, &[0.8, 0.2], 42)?;
/// assert_eq!((parts[0].len(), parts[1].len()), (80, 20));
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// # Errors
/// [`Error::Data`] for shares that are not above 0 or add up to more than 1, for as many classes or groups as there are
/// not items, for a class with fewer items than parts, and for fewer groups or items than parts.
pub fn split<D: Dataset>(set: D, by: Split<'_>, shares: &[f64], seed: u64) -> Result<Vec<Portion<D>>> {
    let sum: f64 = shares.iter().sum();
    if shares.is_empty() || shares.iter().any(|&share| share.is_nan() || share <= 0.0) || sum > 1.0 + 1e-9 {
        let what = format!("the shares {shares:?}");
        return Err(Error::Data { what, next: "pass shares above 0 that add up to at most 1" });
    }
    let parts = assign(set.len(), by, shares, seed)?;
    let set = Arc::new(set);
    parts.into_iter().map(|part| set.clone().subset(part)).collect()
}

/// `k` pairs of what to train on and what to test on: each item is in the test part of one of them.
///
/// # Errors
/// As for [`split`] into `k` equal parts; and if `k` is below 2.
pub fn k_fold<D: Dataset>(set: D, by: Split<'_>, k: usize, seed: u64) -> Result<Vec<(Portion<D>, Portion<D>)>> {
    if k < 2 || k > set.len() {
        let what = format!("{k} folds of {} items", set.len());
        return Err(Error::Data { what, next: "take at least two folds, and no more than there are items" });
    }
    let folds = assign(set.len(), by, &vec![1.0 / k as f64; k], seed)?;
    let set = Arc::new(set);
    let pair = |own: usize| {
        let others = folds.iter().enumerate().filter(|(fold, _)| *fold != own);
        let mut train: Vec<usize> = others.flat_map(|(_, fold)| fold.iter().copied()).collect();
        train.sort_unstable();
        Ok((set.clone().subset(train)?, set.clone().subset(folds[own].clone())?))
    };
    (0..k).map(pair).collect()
}

/// The items of each part, in the order of their numbers.
fn assign(length: usize, by: Split<'_>, shares: &[f64], seed: u64) -> Result<Vec<Vec<usize>>> {
    let seed = seed ^ SPLIT;
    let mut parts = vec![vec![]; shares.len()];
    match by {
        Split::Random => {
            let next = "take fewer parts, or more items";
            cut(&shuffled(length, seed, 0), shares, &mut parts).map_err(|what| Error::Data { what, next })?;
        }
        Split::Stratified(classes) => {
            for (class, items) in members(length, classes, "classes")? {
                let order = shuffled(items.len(), seed, u64::from(class));
                let mixed: Vec<usize> = order.into_iter().map(|place| items[place]).collect();
                let next = "leave the class out, join it with another, or split at random";
                cut(&mixed, shares, &mut parts)
                    .map_err(|what| Error::Data { what: format!("class {class}: {what}"), next })?;
            }
        }
        Split::Groups(groups) => {
            let members: Vec<Vec<usize>> = members(length, groups, "groups")?.into_values().collect();
            if members.len() < shares.len() {
                let what = format!("{} groups for {} parts", members.len(), shares.len());
                return Err(Error::Data { what, next: "take fewer parts, or finer groups" });
            }
            // The largest first, each to the part that lacks most: equal ones in random order.
            let mut order = shuffled(members.len(), seed, 0);
            order.sort_by_key(|&group| std::cmp::Reverse(members[group].len()));
            let total: f64 = shares.iter().sum();
            for group in order {
                let lack = |part: usize| shares[part] / total * length as f64 - parts[part].len() as f64;
                let part = (0..parts.len()).max_by(|&a, &b| lack(a).total_cmp(&lack(b)).then(b.cmp(&a))).unwrap_or(0);
                parts[part].extend(&members[group]);
            }
        }
    }
    parts.iter_mut().for_each(|part| part.sort_unstable());
    Ok(parts)
}

/// Hands the items out in runs by their shares, at least one to each part.
fn cut(items: &[usize], shares: &[f64], parts: &mut [Vec<usize>]) -> Result<(), String> {
    let (count, last) = (items.len(), shares.len());
    if count < last {
        return Err(format!("{count} items for {last} parts"));
    }
    let (mut start, mut sum) = (0, 0.0);
    for (number, part) in parts.iter_mut().enumerate() {
        sum += shares[number];
        let end = (sum.min(1.0) * count as f64).round() as usize;
        let end = end.clamp(start + 1, count - (last - 1 - number));
        part.extend(&items[start..end]);
        start = end;
    }
    Ok(())
}

/// The items of each class or group.
fn members(length: usize, keys: &[u32], what: &str) -> Result<BTreeMap<u32, Vec<usize>>> {
    if keys.len() != length {
        let what = format!("{} {what} for {length} items", keys.len());
        return Err(Error::Data { what, next: "pass one an item" });
    }
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    keys.iter().enumerate().for_each(|(index, &key)| members.entry(key).or_default().push(index));
    Ok(members)
}

/// Runs of `length` items side by side, one every `step` items: [`window`] makes it.
#[derive(Debug, Clone)]
pub struct Window<D> {
    inner: D,
    length: usize,
    step: usize,
}

/// Windows of `length` items, the first at item 0 and then one every `step`; only whole ones.
///
/// # Errors
/// [`Error::Data`] for a length or step of 0.
pub fn window<D: Dataset>(set: D, length: usize, step: usize) -> Result<Window<D>> {
    if length == 0 || step == 0 {
        let what = format!("windows of {length} items every {step}");
        return Err(Error::Data { what, next: "pass a length and a step above 0" });
    }
    Ok(Window { inner: set, length, step })
}

impl<D: Dataset> Dataset for Window<D> {
    type Item = Vec<D::Item>;

    fn len(&self) -> usize {
        self.inner.len().checked_sub(self.length).map_or(0, |left| left / self.step + 1)
    }

    fn get(&self, index: usize) -> Result<Self::Item> {
        if index >= self.len() {
            return Err(beyond(index, self.len()));
        }
        (index * self.step..).take(self.length).map(|item| self.inner.get(item)).collect()
    }

    fn name(&self, index: usize) -> Option<String> {
        self.inner.name(index.checked_mul(self.step)?)
    }
}
