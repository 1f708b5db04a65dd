//! What a data set is, and new ones made of others: mapped, cut, joined, kept in memory.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// Items that are reached by their number. Several threads may read it at once.
///
/// `get` gives the same item whenever it is asked for the same number: what is random belongs into
/// [`DataLoader::map`](super::DataLoader::map), which gives each item a stream of random numbers of its own.
///
/// ```
/// use kiln::data::Dataset;
///
/// struct Squares;
///
/// impl Dataset for Squares {
///     type Item = u32;
///
///     fn len(&self) -> usize {
///         100
///     }
///
///     fn get(&self, index: usize) -> kiln::Result<u32> {
///         Ok((index * index) as u32)
///     }
/// }
///
/// assert_eq!(Squares.map(|square| square + 1).subset([3, 5])?.get(1)?, 26);
/// # Ok::<(), kiln::Error>(())
/// ```
pub trait Dataset: Send + Sync {
    /// What one number gives.
    type Item;

    /// Number of items.
    fn len(&self) -> usize;

    /// Item `index`.
    ///
    /// # Errors
    /// What keeps it from being loaded, among it [`Error::Data`] for an index that is not below [`Dataset::len`].
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// Whether there is no item.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What errors call an item besides its number: the path of its file. Nothing by default.
    fn name(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }

    /// Each item changed by `change`, which must be no matter of chance.
    fn map<T, F>(self, change: F) -> Map<Self, F>
    where
        Self: Sized,
        F: Fn(Self::Item) -> T + Send + Sync,
    {
        Map { inner: self, change }
    }

    /// The items of these numbers, in this order; a number may come again.
    ///
    /// # Errors
    /// [`Error::Data`] for a number that is not below [`Dataset::len`].
    fn subset(self, indices: impl Into<Vec<usize>>) -> Result<Subset<Self>>
    where
        Self: Sized,
    {
        let indices = indices.into();
        match indices.iter().find(|&&index| index >= self.len()) {
            Some(&index) => Err(beyond(index, self.len())),
            None => Ok(Subset { inner: self, indices: indices.into() }),
        }
    }

    /// The items of this set, then those of `other`.
    fn concat<D>(self, other: D) -> Concat<Self, D>
    where
        Self: Sized,
        D: Dataset<Item = Self::Item>,
    {
        Concat { first: self, second: other }
    }

    /// Pairs of an item of this set and the one of `other` with the same number.
    ///
    /// # Errors
    /// [`Error::Data`] unless both have as many items.
    fn zip<D: Dataset>(self, other: D) -> Result<Zip<Self, D>>
    where
        Self: Sized,
    {
        if self.len() != other.len() {
            let what = format!("a set of {} items beside one of {}", self.len(), other.len());
            return Err(Error::Data { what, next: "pass two sets of as many items" });
        }
        Ok(Zip { first: self, second: other })
    }

    /// Items kept in memory once they have been loaded.
    fn cache(self) -> Cache<Self>
    where
        Self: Sized,
        Self::Item: Clone + Send + Sync,
    {
        let items = (0..self.len()).map(|_| OnceLock::new()).collect();
        Cache { inner: self, items }
    }
}

/// What is wrong with an index.
pub(super) fn beyond(index: usize, length: usize) -> Error {
    let what = format!("there is no item {index} among {length}");
    Error::Data { what, next: "count items from 0, and stay below len()" }
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        (**self).get(index)
    }

    fn name(&self, index: usize) -> Option<String> {
        (**self).name(index)
    }
}

impl<D: Dataset + ?Sized> Dataset for &D {
    type Item = D::Item;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        (**self).get(index)
    }

    fn name(&self, index: usize) -> Option<String> {
        (**self).name(index)
    }
}

/// Values in memory, one an item. Clones share them.
#[derive(Debug, Clone)]
pub struct Items<T>(Arc<[T]>);

/// A data set of what is in memory: a `Vec`, an array, or a slice (which is copied).
pub fn items<T: Clone + Send + Sync>(values: impl Into<Arc<[T]>>) -> Items<T> {
    Items(values.into())
}

impl<T> Items<T> {
    /// All of them.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }
}

impl<T: Clone + Send + Sync> Dataset for Items<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        self.0.get(index).cloned().ok_or_else(|| beyond(index, self.0.len()))
    }
}

/// See [`Dataset::map`].
#[derive(Debug, Clone)]
pub struct Map<D, F> {
    inner: D,
    change: F,
}

impl<D: Dataset, T, F: Fn(D::Item) -> T + Send + Sync> Dataset for Map<D, F> {
    type Item = T;

    fn len(&self) -> usize {
        self.inner.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        self.inner.get(index).map(&self.change)
    }

    fn name(&self, index: usize) -> Option<String> {
        self.inner.name(index)
    }
}

/// See [`Dataset::subset`].
#[derive(Debug, Clone)]
pub struct Subset<D> {
    inner: D,
    indices: Arc<[usize]>,
}

impl<D> Subset<D> {
    /// Where each item is in the set that this one was cut from.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        let inner = *self.indices.get(index).ok_or_else(|| beyond(index, self.indices.len()))?;
        self.inner.get(inner)
    }

    fn name(&self, index: usize) -> Option<String> {
        self.inner.name(*self.indices.get(index)?)
    }
}

/// See [`Dataset::concat`].
#[derive(Debug, Clone)]
pub struct Concat<A, B> {
    first: A,
    second: B,
}

impl<A: Dataset, B: Dataset<Item = A::Item>> Dataset for Concat<A, B> {
    type Item = A::Item;

    fn len(&self) -> usize {
        self.first.len() + self.second.len()
    }

    fn get(&self, index: usize) -> Result<A::Item> {
        match index.checked_sub(self.first.len()) {
            None => self.first.get(index),
            Some(second) if second < self.second.len() => self.second.get(second),
            Some(_) => Err(beyond(index, self.len())),
        }
    }

    fn name(&self, index: usize) -> Option<String> {
        match index.checked_sub(self.first.len()) {
            None => self.first.name(index),
            Some(second) => self.second.name(second),
        }
    }
}

/// See [`Dataset::zip`].
#[derive(Debug, Clone)]
pub struct Zip<A, B> {
    first: A,
    second: B,
}

impl<A: Dataset, B: Dataset> Dataset for Zip<A, B> {
    type Item = (A::Item, B::Item);

    fn len(&self) -> usize {
        self.first.len()
    }

    fn get(&self, index: usize) -> Result<Self::Item> {
        Ok((self.first.get(index)?, self.second.get(index)?))
    }

    fn name(&self, index: usize) -> Option<String> {
        self.first.name(index).or_else(|| self.second.name(index))
    }
}

/// See [`Dataset::cache`].
pub struct Cache<D: Dataset> {
    inner: D,
    items: Vec<OnceLock<D::Item>>,
}

impl<D: Dataset> Cache<D> {
    /// Number of items that have been loaded.
    pub fn loaded(&self) -> usize {
        self.items.iter().filter(|item| item.get().is_some()).count()
    }
}

impl<D: Dataset> Dataset for Cache<D>
where
    D::Item: Clone + Send + Sync,
{
    type Item = D::Item;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        let kept = self.items.get(index).ok_or_else(|| beyond(index, self.items.len()))?;
        if let Some(item) = kept.get() {
            return Ok(item.clone());
        }
        // Two threads may load the same item at once: both get the same. What failed is tried again.
        let item = self.inner.get(index)?;
        Ok(kept.get_or_init(|| item).clone())
    }

    fn name(&self, index: usize) -> Option<String> {
        self.inner.name(index)
    }
}
