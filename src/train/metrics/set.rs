//! A set of metrics of the same predictions and targets, and their totals.

use std::fmt;
use std::panic::Location;

use super::accumulate::{self, Accumulated, Held};
use super::{Figure, Figures, Metric, Observation, Totals};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::{Tensor, no_grad};

/// Metrics of the same predictions and targets, with their totals since the last [`reset`](Metrics::reset).
///
/// [The module](super) has an example.
#[derive(Default)]
pub struct Metrics {
    pub(super) entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub name: String,
    pub metric: Box<dyn Metric>,
    pub totals: Accumulated,
}

impl Metrics {
    /// A set of none.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// Adds a metric under its own name.
    #[must_use]
    #[expect(clippy::should_implement_trait, reason = "a set is built as a `Sequential` is")]
    pub fn add(self, metric: impl Metric + 'static) -> Metrics {
        let name = metric.name();
        self.add_as(name, metric)
    }

    /// Adds a metric under another name. No two may have one name: [`Metrics::update`] refuses that.
    #[must_use]
    pub fn add_as(mut self, name: impl Into<String>, metric: impl Metric + 'static) -> Metrics {
        let (name, metric) = (name.into(), Box::new(metric));
        self.entries.push(Entry { name, metric, totals: Accumulated::default() });
        self
    }

    /// Names of the metrics, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// True if nothing has been added up since the last reset.
    pub fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.totals.batches == 0)
    }

    /// Adds a batch: records what it adds, and waits for nothing. What the update before has recorded is submitted now
    /// unless a step or a read has done so; no gradient flows through a metric.
    ///
    /// # Errors
    /// The error that one of the two carries, [`Error::Shape`], [`Error::DType`] or [`Error::Value`] for what a metric
    /// of the set does not take, or what running the last update met. Nothing has been added then.
    #[track_caller]
    pub fn update(&mut self, predictions: &Tensor, targets: &Tensor) -> Result<()> {
        let at = Location::caller();
        if let Some(error) = [predictions, targets].into_iter().find_map(Tensor::error) {
            return Err(error.clone());
        }
        let is_second = |(number, name): &(usize, &str)| self.names().take(*number).any(|other| other == *name);
        let twice = self.names().enumerate().find(is_second).map(|(_, name)| name.to_string());
        if let Some(name) = twice {
            let what = format!("two metrics are called `{name}`");
            return Err(Error::Value { op: "Metrics::update", at, what, next: "give one another name by add_as" });
        }
        self.submit()?;
        let after = no_grad(|| {
            let after = self.entries.iter().map(|entry| entry.after(predictions, targets));
            after.collect::<Result<Vec<_>>>()
        });
        let after = after.map_err(|error| relocated(error, at))?;
        for (entry, after) in self.entries.iter_mut().zip(after) {
            entry.take(after);
        }
        Ok(())
    }

    /// The figures of all batches since the last reset. Reads the totals once, and waits for them.
    ///
    /// # Errors
    /// What running the updates met, or [`Error::Value`] for values that a metric does not take (a label that is no
    /// class).
    pub fn compute(&self) -> Result<Figures> {
        self.submit()?;
        let values = self.held().map(|tensor| tensor.to_array().map(|array| array.data)).collect::<Result<_>>()?;
        self.figures(values)
    }

    /// [`Metrics::compute`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Metrics::compute`].
    pub fn compute_async(&self) -> impl Future<Output = Result<Figures>> + Send + '_ {
        let reads: Result<Vec<_>> =
            self.submit().map(|()| self.held().map(|tensor| tensor.to_vec_async::<f64>()).collect());
        async move {
            let mut values = vec![];
            for read in reads? {
                values.push(read.await?);
            }
            self.figures(values)
        }
    }

    /// Forgets all batches.
    pub fn reset(&mut self) {
        for entry in &mut self.entries {
            entry.totals = Accumulated::default();
        }
    }

    /// What is on the device.
    fn held(&self) -> impl Iterator<Item = &Tensor> {
        self.entries.iter().flat_map(|entry| entry.totals.all().filter_map(Held::tensor))
    }

    /// What the last batch has made on the device.
    pub(super) fn last(&self) -> impl Iterator<Item = &Tensor> {
        self.entries.iter().flat_map(|entry| entry.totals.last()).filter_map(Held::tensor)
    }

    /// Submits what is recorded and has not run, of all metrics together: they share the model's forward pass.
    pub(super) fn submit(&self) -> Result<()> {
        let last: Vec<&Tensor> = self.last().collect();
        last.first().map_or(Ok(()), |first| first.device().eval(&last))
    }

    /// The figures, from the elements of what is [`held`](Metrics::held).
    fn figures(&self, values: Vec<Vec<f64>>) -> Result<Figures> {
        let mut values = values.into_iter();
        let figures = self.entries.iter().map(|entry| {
            let mut next = |held: &Held| match held {
                Held::Host(array) => array.clone(),
                Held::Device(tensor) => accumulate::array(tensor.dims(), DType::F32, values.next().unwrap_or_default()),
            };
            let arrays: Vec<Array> = entry.totals.all().map(&mut next).collect();
            let figure = match entry.totals.batches {
                0 => entry.metric.empty(),
                _ => entry.metric.figure(&entry.totals(arrays))?,
            };
            Ok(Figure { name: entry.name.clone(), ..figure })
        });
        figures.collect::<Result<Vec<_>>>().map(Figures)
    }
}

impl Entry {
    /// The totals after a batch; of rows only its own.
    pub(super) fn after(&self, predictions: &Tensor, targets: &Tensor) -> Result<Accumulated> {
        let (device, before) = (predictions.device(), &self.totals);
        let kept = before.kept.as_ref().map(|kept| kept.on(device));
        let Observation { items, counts, sums, rows, kept: keep } =
            self.metric.observe(predictions, targets, kept.as_ref())?;
        let own: Vec<Held> = rows.iter().map(|rows| Held::Device(rows.detach())).collect();
        let after = Accumulated {
            batches: before.batches.saturating_add(1),
            items: before.items.saturating_add(items),
            counts: counts.map(|counts| accumulate::count(device, before.counts.as_ref(), &counts)),
            sums: sums.map(|sums| accumulate::add(device, before.sums.as_ref(), before.batches, &sums)),
            rows: if own.is_empty() { vec![] } else { vec![own] },
            kept: kept.or(keep.map(|keep| keep.detach())).map(Held::Device),
        };
        let broken = after.all().filter_map(Held::tensor).find_map(Tensor::error).cloned();
        broken.map_or(Ok(after), Err)
    }

    /// Takes the totals after a batch, behind the rows of those before.
    pub(super) fn take(&mut self, mut after: Accumulated) {
        self.totals.rows.append(&mut after.rows);
        self.totals = Accumulated { rows: std::mem::take(&mut self.totals.rows), ..after };
    }

    /// The totals on the host, from the arrays of all that is held.
    fn totals(&self, arrays: Vec<Array>) -> Totals {
        let held = &self.totals;
        let mut arrays = arrays.into_iter();
        let mut next = || arrays.next().map(|array| array.data).unwrap_or_default();
        let counts = held.counts.as_ref().map(|_| accumulate::counts_of(&next(), &next()));
        let sums = held.sums.as_ref().map(|_| accumulate::sums_of(&next()));
        let kept = held.kept.as_ref().map(|_| next());
        let rows = held.rows.iter().map(|batch| arrays.by_ref().take(batch.len()).collect()).collect();
        Totals {
            items: held.items,
            counts: counts.unwrap_or_default(),
            sums: sums.unwrap_or_default(),
            rows,
            kept: kept.unwrap_or_default(),
        }
    }
}

/// An error of what a metric recorded, with the line of the update: that is where the user can look.
pub(super) fn relocated(error: Error, at: &'static Location<'static>) -> Error {
    match error {
        Error::Shape { op, what, next, .. } => Error::Shape { op, at, what, next },
        Error::DType { op, what, .. } => Error::DType { op, at, what },
        Error::Value { op, what, next, .. } => Error::Value { op, at, what, next },
        Error::Axis { op, axis, rank, .. } => Error::Axis { op, at, axis, rank },
        other => other,
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = self.entries.iter().map(|entry| (&entry.name, entry.totals.batches));
        f.debug_map().entries(batches).finish()
    }
}
