//! Metrics that a training closure records as it goes, each by its name.

use std::panic::Location;

use super::accumulate::Accumulated;
use super::checkpoint::{self, Loaded};
use super::set::{Entry, relocated};
use super::{Figure, Figures, Metric, Metrics, Observation, Totals};
use crate::error::{Error, Result};
use crate::tensor::{Tensor, no_grad};
use crate::train::checkpoint::{Commit, Part, PartReader, PartWriter};

/// The kind of part that checkpoints have them as.
pub(crate) const KIND: &str = "metrics of a fit";

/// Metrics with their totals since the last reset. A metric is known from the first batch that records it.
#[derive(Default)]
pub(crate) struct Streams {
    set: Metrics,
    /// What the present batch has added to: places, and the totals before it with their number of batches of rows.
    before: Vec<(usize, Accumulated, usize)>,
}

impl Streams {
    /// True if nothing has been added up since the last reset.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub fn has(&self, name: &str) -> bool {
        self.set.names().any(|known| known == name)
    }

    /// Adds a batch to the totals of this name. Waits for nothing.
    ///
    /// # Errors
    /// As [`Metrics::update`].
    pub fn update(
        &mut self,
        name: &str,
        metric: Box<dyn Metric>,
        [predictions, targets]: &[Tensor; 2],
        at: &'static Location<'static>,
    ) -> Result<()> {
        if let Some(error) = [predictions, targets].into_iter().find_map(|tensor| tensor.error()) {
            return Err(error.clone());
        }
        let entries = &mut self.set.entries;
        let place = entries.iter().position(|entry| entry.name == name).unwrap_or_else(|| {
            entries.push(Entry {
                name: name.into(),
                metric: Box::new(Saved(f64::NAN)),
                totals: Accumulated::default(),
            });
            entries.len() - 1
        });
        let Some(entry) = entries.get_mut(place) else { return Ok(()) };
        // It may be made anew for each batch; totals of a checkpoint have none yet.
        entry.metric = metric;
        let after = no_grad(|| entry.after(predictions, targets)).map_err(|error| relocated(error, at))?;
        let rows = entry.totals.rows.len();
        self.before.push((place, entry.totals.clone_but_rows(), rows));
        entry.take(after);
        Ok(())
    }

    /// Undoes what the present batch has added.
    pub fn undo(&mut self) {
        while let Some((place, before, rows)) = self.before.pop() {
            if let Some(entry) = self.set.entries.get_mut(place) {
                let mut kept = std::mem::take(&mut entry.totals.rows);
                kept.truncate(rows);
                entry.totals = Accumulated { rows: kept, ..before };
            }
        }
    }

    /// Ends a batch: what it has made, which may still have to be computed.
    pub fn end_batch(&mut self) -> Vec<Tensor> {
        self.before.clear();
        self.set.last().cloned().collect()
    }

    /// The figures of all batches since the last reset.
    pub async fn figures(&self) -> Result<Figures> {
        self.set.compute_async().await
    }

    /// Forgets all batches, and the metrics.
    pub fn reset(&mut self) {
        *self = Streams::default();
    }
}

impl Part for Streams {
    fn kind(&self) -> &str {
        KIND
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        checkpoint::write(&self.set, Some(&self.set.compute()?), to)
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let loaded = checkpoint::read(from)?;
        Ok(Box::new(move || {
            let entry = |Loaded { name, figure, totals }| {
                let metric = Box::new(Saved(figure.unwrap_or(f64::NAN)));
                Entry { name, metric, totals }
            };
            self.set.entries = loaded.into_iter().map(entry).collect();
            Ok(())
        }))
    }
}

/// Stands for a metric whose totals a checkpoint has, with the figure that they made, until the closure records it again: a
/// run may go on behind the last batch of an epoch.
struct Saved(f64);

impl Metric for Saved {
    fn name(&self) -> String {
        "saved".into()
    }

    fn observe(&self, _: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        Err(Error::internal("a metric of a checkpoint was given a batch"))
    }

    fn figure(&self, _: &Totals) -> Result<Figure> {
        Ok(Figure::new(self.0))
    }
}
