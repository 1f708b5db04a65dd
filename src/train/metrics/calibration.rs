//! Expected calibration error.

use super::classes::{flat_targets, rows};
use super::{Figure, Metric, Observation, Totals};
use crate::dtype::DType;
use crate::error::Result;
use crate::tensor::Tensor;

/// Expected calibration error: how far a classifier's confidence, the probability of the class that it predicts, is
/// from the share of items in which it is right.
///
/// Items are put into bins of equal width by confidence, `(i / bins, (i + 1) / bins]`; the error is the mean over the
/// items of the distance between mean confidence and accuracy in their bin. Predictions are logits, `[n, classes, ..]` or
/// `[.., classes]`, whose softmax are the probabilities; targets are classes, u32 or i32. NaN before the first batch; an
/// item whose confidence is NaN makes it NaN.
///
/// C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On calibration of modern neural networks", ICML 2017.
#[derive(Debug, Clone, Copy)]
pub struct CalibrationError {
    bins: usize,
}

impl CalibrationError {
    /// With so many bins, usually 15; at least one.
    pub fn new(bins: usize) -> CalibrationError {
        CalibrationError { bins: bins.max(1) }
    }
}

impl Metric for CalibrationError {
    fn name(&self) -> String {
        "calibration_error".into()
    }

    /// Counts of misses in each bin, then of hits; sums of confidences.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let scores = rows("CalibrationError", predictions, targets)?;
        let targets = flat_targets("CalibrationError", targets)?;
        let confidence = scores.softmax(1).max(1);
        let bins = self.bins as f64;
        let bin = ((&confidence * bins).ceil() - 1.0).clamp(0.0, bins - 1.0).cast(DType::I32);
        let hit = scores.argmax(1).cast(DType::I32).eq(&targets).cast(DType::I32);
        let counts = (&hit * bins + &bin).bincount(2 * self.bins);
        let sums = bin.bincount_weighted(self.bins, &confidence);
        Ok(Observation { counts: Some(counts), sums: Some(sums), ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let counts = totals.exactly(2 * self.bins)?;
        let hits = &counts[self.bins..];
        let total = counts.iter().map(|&count| count as f64).sum::<f64>();
        let gaps = hits.iter().zip(&totals.sums).map(|(&hits, confidence)| (confidence - hits as f64).abs());
        Ok(Figure::new(gaps.sum::<f64>() / total))
    }
}
