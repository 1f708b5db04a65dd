//! Edit distance between sequences: rates of wrong characters, words, phonemes.

use std::panic::Location;

use super::metric::lines;
use super::{Figure, Metric, Observation, Totals};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Insertions, deletions and substitutions that make the predicted sequences the targets (the least number of them), over
/// the number of tokens in the targets: of characters the character error rate, of words the word error rate. It can be
/// above 1; NaN where targets have no tokens and before the first batch.
///
/// Predictions and targets are tokens, u32 or i32, `[n, length]`; the two lengths may differ, and each batch has its own.
/// Tokens that are padding do not count, wherever they stand.
///
/// V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals", 1966.
#[derive(Debug, Clone, Copy)]
pub struct EditDistance {
    padding: i64,
}

impl EditDistance {
    /// With this token as padding.
    pub fn new(padding: i64) -> EditDistance {
        EditDistance { padding }
    }
}

impl Metric for EditDistance {
    fn name(&self) -> String {
        "edit_distance".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let at = Location::caller();
        if let Some(other) = [predictions, targets].into_iter().find(|x| !x.meta().dtype.is_integer()) {
            let what = format!("tokens are u32 or i32, not {}", other.meta().dtype);
            return Err(Error::DType { op: "EditDistance", at, what });
        }
        match (&predictions.dims()[..], &targets.dims()[..]) {
            ([n, _], [m, _]) if n == m => {}
            (predicted, wanted) => {
                let what = format!("predictions of shape {predicted:?} for targets of shape {wanted:?}");
                let next = "pass both as [n, length], padded to the longest";
                return Err(Error::Shape { op: "EditDistance", at, what, next });
            }
        }
        let rows = [predictions, targets].map(|x| x.cast(DType::I32)).to_vec();
        Ok(Observation { rows, ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let (mut edits, mut tokens) = (0, 0);
        for batch in totals.batches::<2>()? {
            let rows = |array: &'_ Array| -> Vec<Vec<i64>> { lines(array).map(|row| self.sequence(row)).collect() };
            let [predicted, targets] = batch;
            for (predicted, target) in rows(predicted).into_iter().zip(rows(targets)) {
                edits += distance(&predicted, &target);
                tokens += target.len();
            }
        }
        Ok(Figure::new(edits as f64 / tokens as f64))
    }
}

impl EditDistance {
    fn sequence(&self, row: &[f64]) -> Vec<i64> {
        row.iter().map(|&token| token as i64).filter(|&token| token != self.padding).collect()
    }
}

/// The least number of edits; a row of the table at a time.
fn distance(from: &[i64], to: &[i64]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, one) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(one != other);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
