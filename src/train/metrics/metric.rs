//! What a metric is, what it adds up, and what comes of it.

use std::panic::Location;

use super::matrix::ConfusionMatrix;
use crate::array::Array;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// What is measured of predictions and targets: what each batch adds to the totals, and the figure that they make. It
/// holds no totals itself; [`Metrics`](super::Metrics) does.
///
/// ```
/// use kiln::prelude::*;
/// use kiln::train::metrics::{Figure, Metric, Metrics, Observation, Totals};
///
/// /// The mean of the predictions that are above zero.
/// struct Positive;
///
/// impl Metric for Positive {
///     fn name(&self) -> String {
///         "positive".into()
///     }
///
///     fn observe(&self, predictions: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
///         let above = predictions.gt(0.0);
///         let counts = above.sum_all().cast(DType::U32).reshape(&[1]);
///         let sums = predictions.relu().sum_all().reshape(&[1]);
///         Ok(Observation { counts: Some(counts), sums: Some(sums), ..Observation::default() })
///     }
///
///     fn figure(&self, totals: &Totals) -> Result<Figure> {
///         Ok(Figure::new(totals.sum(0)? / totals.count(0)? as f64))
///     }
/// }
///
/// let device = Device::cpu();
/// let mut metrics = Metrics::new().add(Positive);
/// for batch in [[1.0f32, -2.0], [2.0, 6.0]] {
///     let batch = device.tensor(&batch, &[2]);
///     metrics.update(&batch, &batch)?;
/// }
/// assert_eq!(metrics.compute()?.value("positive"), Some(3.0));
/// # Ok::<(), Error>(())
/// ```
pub trait Metric: Send + Sync {
    /// What the figure is called: `accuracy`.
    fn name(&self) -> String;

    /// What a batch adds, as recorded tensors. `kept` is what the first batch since the last reset has left, if it left
    /// something; sizes must be the same from batch to batch.
    ///
    /// # Errors
    /// What does not fit of the shapes and dtypes.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, kept: Option<&Tensor>) -> Result<Observation>;

    /// The figure that the totals make. It is not asked before the first batch: see [`Metric::empty`].
    ///
    /// # Errors
    /// What was wrong with the values that the device has seen.
    fn figure(&self, totals: &Totals) -> Result<Figure>;

    /// The figure of no batch at all: NaN, unless the field has another.
    fn empty(&self) -> Figure {
        Figure::new(f64::NAN)
    }

    /// This metric of a batch's predictions and targets, for [`Step::metric`](crate::train::Step::metric).
    fn of(self, predictions: &Tensor, targets: &Tensor) -> Measurement
    where
        Self: Sized + 'static,
    {
        Measurement(Kind::Metric(Box::new(self), [predictions.clone(), targets.clone()]))
    }
}

/// What [`Step::metric`](crate::train::Step::metric) records of a batch: a number, from a tensor of one element, or what a
/// metric makes of predictions and targets, from [`Metric::of`].
pub struct Measurement(pub(crate) Kind);

pub(crate) enum Kind {
    Number(Tensor),
    Metric(Box<dyn Metric>, [Tensor; 2]),
}

impl From<Tensor> for Measurement {
    fn from(number: Tensor) -> Measurement {
        Measurement(Kind::Number(number))
    }
}

impl From<&Tensor> for Measurement {
    fn from(number: &Tensor) -> Measurement {
        Measurement(Kind::Number(number.clone()))
    }
}

/// What a batch adds to the totals of a [`Metric`].
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// Number of items, where the shapes tell.
    pub items: u64,
    /// Counts, `[k]`, u32: their totals have 64 bits.
    pub counts: Option<Tensor>,
    /// Sums, `[k]`, f32; of a few numbers, for 32 times their memory is taken.
    pub sums: Option<Tensor>,
    /// Whole batches, kept until they are read; as many tensors each time.
    pub rows: Vec<Tensor>,
    /// What later batches shall be shown: an origin to count from. Taken from the first batch alone.
    pub kept: Option<Tensor>,
}

/// What batches have added up to, on the host.
///
/// The methods read them as a metric has laid them out, and refuse those of another one: a checkpoint may have been written
/// by a program whose metric of this name was another.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Sum of [`Observation::items`].
    pub items: u64,
    /// Sums of [`Observation::counts`].
    pub counts: Vec<u64>,
    /// Sums of [`Observation::sums`].
    pub sums: Vec<f64>,
    /// For each batch its [`Observation::rows`].
    pub rows: Vec<Vec<Array>>,
    /// [`Observation::kept`].
    pub kept: Vec<f64>,
}

impl Totals {
    /// The count at this place.
    ///
    /// # Errors
    /// [`Error::Value`] if there is none: the totals are those of another metric.
    pub fn count(&self, place: usize) -> Result<u64> {
        self.counts.get(place).copied().ok_or_else(|| foreign(format!("{} counts", self.counts.len())))
    }

    /// The sum at this place.
    ///
    /// # Errors
    /// As [`Totals::count`].
    pub fn sum(&self, place: usize) -> Result<f64> {
        self.sums.get(place).copied().ok_or_else(|| foreign(format!("{} sums", self.sums.len())))
    }

    /// So many counts, all that there are.
    ///
    /// # Errors
    /// As [`Totals::count`].
    pub fn exactly(&self, counts: usize) -> Result<&[u64]> {
        match self.counts.len() == counts {
            true => Ok(&self.counts),
            false => Err(foreign(format!("{} counts, where there should be {counts}", self.counts.len()))),
        }
    }

    /// For each batch its `N` arrays, each with an axis of items and the elements that its shape says.
    ///
    /// # Errors
    /// As [`Totals::count`], for a batch that is otherwise.
    pub fn batches<const N: usize>(&self) -> Result<Vec<&[Array; N]>> {
        let whole = |array: &Array| array.shape.rank() > 0 && array.data.len() == array.shape.elements();
        let batch = |batch: &'_ Vec<Array>| -> bool { batch.len() == N && batch.iter().all(whole) };
        if !self.rows.iter().all(batch) {
            return Err(foreign("batches of other arrays".into()));
        }
        Ok(self.rows.iter().filter_map(|batch| <&[Array; N]>::try_from(&batch[..]).ok()).collect())
    }
}

/// The rows of an array, along its last axis.
pub(super) fn lines(array: &Array) -> impl Iterator<Item = &[f64]> {
    let width = array.shape.last().copied().unwrap_or(1);
    array.data.chunks_exact(width.max(1))
}

/// Totals that are not those of the metric which reads them.
#[track_caller]
pub(super) fn foreign(what: String) -> Error {
    let next =
        "give a metric the totals that it has added up itself: load a checkpoint into the metrics it was made with";
    Error::Value { op: "Totals", at: Location::caller(), what: format!("totals of another metric: {what}"), next }
}

/// What a metric says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figure {
    /// The metric's name in its set.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// The same of each class alone, where that has a meaning; with the classes' names, else their numbers.
    pub by_class: Vec<(String, f64)>,
    /// The confusion matrix that the figure was made of, if it was.
    pub matrix: Option<ConfusionMatrix>,
}

impl Figure {
    /// A figure of all classes together.
    pub fn new(value: f64) -> Figure {
        Figure { value, ..Figure::default() }
    }
}

/// The figures of a set, in its order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Figures(pub(super) Vec<Figure>);

impl Figures {
    /// The figure of this name.
    pub fn get(&self, name: &str) -> Option<&Figure> {
        self.0.iter().find(|figure| figure.name == name)
    }

    /// The value of this name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.get(name).map(|figure| figure.value)
    }

    /// The values with their names.
    pub fn values(&self) -> impl Iterator<Item = (String, f64)> {
        self.0.iter().map(|figure| (figure.name.clone(), figure.value))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Figure> {
        self.0.iter()
    }

    /// The confusion matrix of the first figure that was made of one.
    pub fn matrix(&self) -> Option<&ConfusionMatrix> {
        self.0.iter().find_map(|figure| figure.matrix.as_ref())
    }
}

impl<'a> IntoIterator for &'a Figures {
    type Item = &'a Figure;
    type IntoIter = std::slice::Iter<'a, Figure>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
