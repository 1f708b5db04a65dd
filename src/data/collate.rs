//! From items to a batch.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Numbers on the host with the lengths of their axes, row-major: `device.tensor(&array.values, &array.shape)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostArray<T> {
    /// Axis lengths; none for a single number.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Vec<T>,
}

impl<T> HostArray<T> {
    /// Elements of `shape`.
    ///
    /// # Errors
    /// [`Error::Data`] unless there are as many as the product of `shape`.
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        if shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side)) != Some(values.len()) {
            let what = format!("{} values for shape {shape:?}", values.len());
            return Err(Error::Data { what, next: "pass one value an element" });
        }
        Ok(HostArray { shape, values })
    }
}

/// Items that become a batch: numbers an array with the batch as first axis, pairs a pair of batches.
///
/// | item | batch |
/// | --- | --- |
/// | a number or `bool` | [`HostArray`] of shape `[n]` |
/// | [`HostArray`] | [`HostArray`] of shape `[n, ..]`; all of one shape |
/// | [`Sequence`] | [`Padded`], as long as the longest |
/// | `String`, `usize` | `Vec` |
/// | `(A, B)`, `(A, B, C)` | a tuple of their batches |
/// | `BTreeMap<String, A>` | a map of their batches; all with the same names |
///
/// For a struct of your own implement it, or pass a closure to [`DataLoader::collate`](super::DataLoader::collate).
pub trait Collate: Sized {
    /// What several of them become.
    type Batch;

    /// Makes a batch of at least one item, in this order.
    ///
    /// # Errors
    /// What keeps these items from being one batch.
    fn collate(items: Vec<Self>) -> Result<Self::Batch>;
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl Collate for $type {
            type Batch = HostArray<$type>;

            fn collate(items: Vec<Self>) -> Result<Self::Batch> {
                Ok(HostArray { shape: vec![items.len()], values: items })
            }
        }
    )*};
}

numbers!(f32 f64 half::f16 i32 i64 u8 u32 u64 bool);

macro_rules! lists {
    ($($type:ty)*) => {$(
        impl Collate for $type {
            type Batch = Vec<$type>;

            fn collate(items: Vec<Self>) -> Result<Self::Batch> {
                Ok(items)
            }
        }
    )*};
}

lists!(String usize);

impl<T> Collate for HostArray<T> {
    type Batch = HostArray<T>;

    fn collate(items: Vec<Self>) -> Result<Self> {
        let count = items.len();
        let mut items = items.into_iter();
        let Some(HostArray { shape: first, mut values }) = items.next() else {
            return Ok(HostArray { shape: vec![0], values: vec![] });
        };
        values.reserve_exact(values.len() * (count - 1));
        for (number, item) in items.enumerate() {
            if item.shape != first {
                let what =
                    format!("item {} of a batch has shape {:?}, the first one {first:?}", number + 1, item.shape);
                let next =
                    "bring all items to one shape (resize, crop), or make sequences `Sequence`s, which are padded";
                return Err(Error::Data { what, next });
            }
            values.extend(item.values);
        }
        let shape = std::iter::once(count).chain(first).collect();
        Ok(HostArray { shape, values })
    }
}

impl<A: Collate, B: Collate> Collate for (A, B) {
    type Batch = (A::Batch, B::Batch);

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let (first, second) = items.into_iter().unzip();
        Ok((A::collate(first)?, B::collate(second)?))
    }
}

impl<A: Collate, B: Collate, C: Collate> Collate for (A, B, C) {
    type Batch = (A::Batch, B::Batch, C::Batch);

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let (mut first, mut second, mut third) = (vec![], vec![], vec![]);
        for (a, b, c) in items {
            first.push(a);
            second.push(b);
            third.push(c);
        }
        Ok((A::collate(first)?, B::collate(second)?, C::collate(third)?))
    }
}

impl<A: Collate> Collate for BTreeMap<String, A> {
    type Batch = BTreeMap<String, A::Batch>;

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let mut columns: BTreeMap<String, Vec<A>> = BTreeMap::new();
        for (number, item) in items.into_iter().enumerate() {
            if number > 0 && !item.keys().eq(columns.keys()) {
                let (own, first): (Vec<_>, Vec<_>) = (item.keys().collect(), columns.keys().collect());
                let what = format!("item {number} of a batch has the names {own:?}, the first one {first:?}");
                return Err(Error::Data { what, next: "give all items the same names" });
            }
            for (name, value) in item {
                columns.entry(name).or_default().push(value);
            }
        }
        columns.into_iter().map(|(name, values)| Ok((name, A::collate(values)?))).collect()
    }
}

/// A list of any length: a batch of them is padded to its longest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sequence<T>(pub Vec<T>);

/// Sequences of one batch, each padded at its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Padded<T> {
    /// `[n, longest]`.
    pub values: HostArray<T>,
    /// Elements of each that are its own.
    pub lengths: Vec<u32>,
}

impl<T> Padded<T> {
    /// Pads `sequences` with `padding`.
    pub fn new(sequences: &[Sequence<T>], padding: T) -> Padded<T>
    where
        T: Copy,
    {
        let longest = sequences.iter().map(|sequence| sequence.0.len()).max().unwrap_or(0);
        let mut values = Vec::with_capacity(longest * sequences.len());
        for (number, Sequence(sequence)) in sequences.iter().enumerate() {
            values.extend_from_slice(sequence);
            values.resize((number + 1) * longest, padding);
        }
        let lengths = sequences.iter().map(|sequence| sequence.0.len() as u32).collect();
        Padded { values: HostArray { shape: vec![sequences.len(), longest], values }, lengths }
    }
}

/// Padded with zeros; [`Padded::new`] in a closure pads with another value.
impl<T: Copy + Default> Collate for Sequence<T> {
    type Batch = Padded<T>;

    fn collate(items: Vec<Self>) -> Result<Padded<T>> {
        Ok(Padded::new(&items, T::default()))
    }
}

/// From a list of items to a batch: [`Stack`], or [`With`] a closure.
pub trait Collator<T> {
    /// What several items become.
    type Batch;

    /// Makes a batch of at least one item.
    ///
    /// # Errors
    /// What keeps these items from being one batch.
    fn batch(&self, items: Vec<T>) -> Result<Self::Batch>;
}

/// As [`Collate`] says; what a [`DataLoader`](super::DataLoader) does unless it is told otherwise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stack;

impl<T: Collate> Collator<T> for Stack {
    type Batch = T::Batch;

    fn batch(&self, items: Vec<T>) -> Result<T::Batch> {
        T::collate(items)
    }
}

/// As a closure says, see [`DataLoader::collate`](super::DataLoader::collate).
pub struct With<T, B>(pub(super) Box<dyn Fn(Vec<T>) -> Result<B> + Send + Sync>);

impl<T, B> Collator<T> for With<T, B> {
    type Batch = B;

    fn batch(&self, items: Vec<T>) -> Result<B> {
        (self.0)(items)
    }
}
