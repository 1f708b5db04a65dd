//! Cross-validation: every item is tested once, by a model that was not trained on it.

use crate::data::{Dataset, Portion, Split, k_fold};
use crate::error::{Error, Result};

/// The scores of folds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scores {
    values: Vec<f64>,
}

impl Scores {
    /// Adds the score of another fold.
    pub fn push(&mut self, score: f64) {
        self.values.push(score);
    }

    /// One a fold.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Their mean; NaN for none.
    pub fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }

    /// Their standard deviation as a sample of all possible folds (divided by n - 1); `None` for less than two.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean();
        let squares: f64 = self.values.iter().map(|value| (value - mean).powi(2)).sum();
        (self.values.len() > 1).then(|| (squares / (self.values.len() - 1) as f64).sqrt())
    }
}

/// `0.9812 ± 0.0045`: mean and deviation.
impl std::fmt::Display for Scores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.4}", self.mean())?;
        self.deviation().map_or(Ok(()), |deviation| write!(f, " ± {deviation:.4}"))
    }
}

/// Trains and tests in `k` folds: `fit` trains on its first part and returns the score on its second; the third is the
/// number of the fold, from 0. [`Trial::cross_validate`](super::Trial::cross_validate) reports to a study besides.
///
/// ```
/// use kiln::data::{self, Dataset, Split};
/// use kiln::search::cross_validate;
///
/// let numbers = data::items((0..100u32).map(f64::from).collect::<Vec<_>>());
/// let scores = cross_validate(numbers, Split::Random, 5, 42, |train, test, _| {
///     let mean = |part: &dyn Dataset<Item = f64>| {
///         (0..part.len()).map(|item| part.get(item)).sum::<kiln::Result<f64>>().map(|sum| sum / part.len() as f64)
///     };
///     Ok::<f64, kiln::Error>((mean(&train)? - mean(&test)?).abs())
/// })?;
/// assert_eq!(scores.values().len(), 5);
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// # Errors
/// Those of [`k_fold`] and of `fit`.
pub fn cross_validate<D: Dataset, E: From<Error>>(
    set: D,
    by: Split<'_>,
    k: usize,
    seed: u64,
    fit: impl FnMut(Portion<D>, Portion<D>, usize) -> Result<f64, E>,
) -> Result<Scores, E> {
    folds(set, by, k, seed, fit, |_, _| Ok(true))
}

/// The same; behind each fold `goes_on` is told how many there were and their scores, and may end it.
pub(super) fn folds<D: Dataset, E: From<Error>>(
    set: D,
    by: Split<'_>,
    k: usize,
    seed: u64,
    mut fit: impl FnMut(Portion<D>, Portion<D>, usize) -> Result<f64, E>,
    mut goes_on: impl FnMut(u64, &Scores) -> Result<bool>,
) -> Result<Scores, E> {
    let mut scores = Scores::default();
    for (fold, (train, test)) in k_fold(set, by, k, seed)?.into_iter().enumerate() {
        scores.push(fit(train, test, fold)?);
        if !goes_on(fold as u64 + 1, &scores)? {
            break;
        }
    }
    Ok(scores)
}
