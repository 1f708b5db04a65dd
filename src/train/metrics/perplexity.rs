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

    /// Counts of tokens and of ignored ones, where the shapes do not tell; the sum of cross-entropies.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let logits = rows("Perplexity", predictions, targets)?;
        let flat = flat_targets("Perplexity", targets)?;
        let options =
            CrossEntropyOptions { ignore: self.ignore, reduction: Reduction::Sum, ..CrossEntropyOptions::default() };
        // Uploaded targets as they are, for they can be checked before anything runs.
        let labels = targets.reshape(flat.dims());
        let sums = Some(logits.cross_entropy_with(&labels, &options).reshape(&[1]));
        let counts = self.ignore.map(|ignored| flat.eq(ignored).cast(DType::U32).bincount(2));
        let items = if counts.is_none() { flat.dims().elements() as u64 } else { 0 };
        Ok(Observation { items, counts, sums, ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let tokens = totals.counts.first().copied().unwrap_or(totals.items);
        Ok(Figure::new((totals.sum(0)? / tokens as f64).exp()))
    }
}
