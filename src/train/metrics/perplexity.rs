//! Perplexity of a language model.

use super::classes::{flat_targets, rows};
use super::{Figure, Metric, Observation, Totals};
use crate::dtype::DType;
use crate::error::Result;
use crate::ops::Reduction;
use crate::ops::cross_entropy::CrossEntropyOptions;
use crate::tensor::Tensor;

/// e to the power of the mean cross-entropy over all tokens: among how many equally likely tokens a model would be as
/// unsure.
///
/// Predictions are logits, `[n, tokens, ..]` or `[.., tokens]`; targets are tokens, u32 or i32. The mean is over tokens,
/// not over batches. NaN before the first batch, and where all tokens are ignored; infinite where e to that power is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Perplexity {
    ignore: Option<i64>,
}

impl Perplexity {
    /// Over all tokens.
    pub fn new() -> Perplexity {
        Perplexity::default()
    }

    /// Leaves out this token (padding; -100 is usual).
    pub fn ignore(self, target: i64) -> Perplexity {
        Perplexity { ignore: Some(target) }
    }
}

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".into()
    }

    /// Counts of tokens and of ignored ones; the sum of cross-entropies.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let logits = rows("Perplexity", predictions, targets)?;
        let flat = flat_targets("Perplexity", targets)?;
        let options =
            CrossEntropyOptions { ignore: self.ignore, reduction: Reduction::Sum, ..CrossEntropyOptions::default() };
        // Uploaded targets as they are, for they can be checked before anything runs.
        let labels = targets.reshape(flat.dims());
        let sum = logits.cross_entropy_with(&labels, &options);
        let ignored = match self.ignore {
            Some(ignored) => flat.eq(ignored).cast(DType::U32),
            None => flat.device().full(flat.dims(), 0.0, DType::U32),
        };
        let (counts, sums) = (ignored.bincount(2), sum.reshape(&[1]));
        Ok(Observation { counts: Some(counts), sums: Some(sums), ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        Ok(Figure::new((totals.sums[0] / totals.counts[0] as f64).exp()))
    }
}
