//! Metrics of rankings, which need all items at once: areas under curves, and discounted gain.

use std::panic::Location;

use super::metric::{foreign, lines};
use super::regression::alike;
use super::{Figure, Metric, Observation, Totals, classes};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Area under the receiver operating characteristic: the probability that an item of the class has a larger score than
/// one that is not, ties counting half.
///
/// Predictions are scores of class 1, floats shaped as the targets, or scores of all classes, `[n, classes, ..]` or
/// `[.., classes]`: then it is the mean over the classes, each against the rest, which [`Figure::by_class`] has one by
/// one. Targets are classes, u32 or i32. NaN where all items are of one class or none is (such classes are left out of the
/// mean), and where a score is NaN. `roc_auc_score`.
///
/// Scores stay on the device until they are read: 4 bytes a score and 4 an item.
#[derive(Debug, Clone, Copy, Default)]
pub struct Auroc;

/// Average precision: the area under the curve of precision over recall, each threshold's precision weighted by the
/// recall that it gains. Inputs and memory as [`Auroc`]'s; 0 for a class without items, NaN where a score is.
/// `average_precision_score`.
#[derive(Debug, Clone, Copy, Default)]
pub struct AveragePrecision;

impl Metric for Auroc {
    fn name(&self) -> String {
        "auroc".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        scores_and_targets("Auroc", predictions, targets)
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        by_class(totals, area)
    }
}

impl Metric for AveragePrecision {
    fn name(&self) -> String {
        "average_precision".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        scores_and_targets("AveragePrecision", predictions, targets)
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        by_class(totals, average_precision)
    }
}

/// Scores `[n, 1]` of class 1, or `[n, classes]`, and targets.
fn scores_and_targets(op: &'static str, predictions: &Tensor, targets: &Tensor) -> Result<Observation> {
    let flat = classes::flat_targets(op, targets)?;
    let scores = match predictions.dims() == targets.dims() && predictions.meta().dtype.is_float() {
        true => predictions.reshape(&[targets.dims().elements(), 1]),
        false => classes::rows(op, predictions, targets)?,
    };
    Ok(Observation { rows: vec![scores.cast(DType::F32), flat], ..Observation::default() })
}

/// A figure of each class against the rest.
fn by_class(totals: &Totals, figure: fn(&[(f64, bool)]) -> f64) -> Result<Figure> {
    let batches = totals.batches::<2>()?;
    let width = |scores: &Array| scores.shape.last().copied().filter(|_| scores.shape.rank() == 2).unwrap_or(0);
    let classes = batches.first().map_or(1, |[scores, _]| width(scores));
    if classes == 0 || batches.iter().any(|[scores, _]| width(scores) != classes) {
        return Err(foreign("batches whose scores are no rows of one width".into()));
    }
    let of = |class: usize| {
        let wanted = if classes == 1 { 1.0 } else { class as f64 };
        let mut items: Vec<(f64, bool)> = vec![];
        for [scores, targets] in &batches {
            let scores = scores.data.iter().skip(class).step_by(classes);
            items.extend(scores.zip(&targets.data).map(|(&score, &target)| (score, target == wanted)));
        }
        if items.iter().any(|(score, _)| score.is_nan()) {
            return f64::NAN;
        }
        items.sort_unstable_by(|one, other| other.0.total_cmp(&one.0));
        figure(&items)
    };
    let each: Vec<f64> = (0..classes).map(of).collect();
    if let [only] = each[..] {
        return Ok(Figure::new(only));
    }
    // Classes that have no figure are left out; scores that are no numbers are not passed over in silence.
    let is_nan = batches.iter().any(|[scores, _]| scores.data.iter().any(|score| score.is_nan()));
    let known: Vec<f64> = each.iter().copied().filter(|value| is_nan || !value.is_nan()).collect();
    let value = known.iter().sum::<f64>() / known.len() as f64;
    let by_class = each.into_iter().enumerate().map(|(class, value)| (class.to_string(), value)).collect();
    Ok(Figure { value, by_class, ..Figure::default() })
}

/// Numbers of items in the class and not in it, for each score from the largest on.
fn thresholds(items: &[(f64, bool)]) -> impl Iterator<Item = (f64, f64)> {
    items.chunk_by(|one, other| one.0 == other.0).map(|tied| {
        let inside = tied.iter().filter(|(_, is_inside)| *is_inside).count();
        (inside as f64, (tied.len() - inside) as f64)
    })
}

fn area(items: &[(f64, bool)]) -> f64 {
    let (mut area, mut inside, mut outside) = (0.0, 0.0, 0.0);
    for (more_inside, more_outside) in thresholds(items) {
        area += more_outside * (inside + 0.5 * more_inside);
        (inside, outside) = (inside + more_inside, outside + more_outside);
    }
    area / (inside * outside)
}

fn average_precision(items: &[(f64, bool)]) -> f64 {
    let (mut area, mut inside, mut taken) = (0.0, 0.0, 0.0);
    for (more_inside, more_outside) in thresholds(items) {
        (inside, taken) = (inside + more_inside, taken + more_inside + more_outside);
        area += more_inside * inside / taken;
    }
    if inside == 0.0 { 0.0 } else { area / inside }
}

/// Normalised discounted cumulative gain: for each row of documents the sum of their relevance, divided by log2 of one more
/// than their rank by score, over the largest that it could be; the mean over rows. Tied documents share their ranks'
/// discounts.
///
/// Predictions are scores and targets relevances of 0 or more, floats of one shape, `[n, documents]`. A row without
/// relevant documents counts 0. NaN before the first batch and where a score is NaN. `ndcg_score`.
///
/// K. Jarvelin and J. Kekalainen, "Cumulated gain-based evaluation of IR techniques", ACM Transactions on Information
/// Systems 20, 2002.
#[derive(Debug, Clone, Copy)]
pub struct Ndcg {
    first: Option<usize>,
}

impl Ndcg {
    /// Over all documents of a row.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Ndcg {
        Ndcg { first: None }
    }

    /// Over those that stand first.
    pub fn at(k: usize) -> Ndcg {
        Ndcg { first: Some(k) }
    }

    fn of_row(&self, scores: &[f64], gains: &[f64]) -> f64 {
        let mut ranked: Vec<(f64, f64)> = scores.iter().copied().zip(gains.iter().copied()).collect();
        ranked.sort_by(|one, other| other.0.total_cmp(&one.0));
        let mut ideal = gains.to_vec();
        ideal.sort_by(|one, other| other.total_cmp(one));
        let first = self.first.unwrap_or(gains.len()).min(gains.len());
        let discount = |rank: usize| if rank < first { 1.0 / (rank as f64 + 2.0).log2() } else { 0.0 };
        let (mut gain, mut rank) = (0.0, 0);
        for tied in ranked.chunk_by(|one, other| one.0 == other.0) {
            let discounts: f64 = (rank..rank + tied.len()).map(discount).sum();
            gain += discounts * tied.iter().map(|(_, gain)| gain).sum::<f64>() / tied.len() as f64;
            rank += tied.len();
        }
        let best: f64 = ideal.iter().enumerate().map(|(rank, gain)| gain * discount(rank)).sum();
        match best {
            _ if scores.iter().any(|score| score.is_nan()) => f64::NAN,
            0.0 => 0.0,
            _ => gain / best,
        }
    }
}

impl Metric for Ndcg {
    fn name(&self) -> String {
        self.first.map_or("ndcg".into(), |first| format!("ndcg_{first}"))
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [predictions, targets] = alike("Ndcg", predictions, targets)?;
        if targets.dims().rank() != 2 {
            let what = format!("scores of shape {}, where [n, documents] is wanted", targets.dims());
            let next = "give each query a row of scores";
            return Err(Error::Shape { op: "Ndcg", at: Location::caller(), what, next });
        }
        Ok(Observation { rows: vec![predictions, targets], ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let (mut sum, mut rows) = (0.0, 0);
        for [scores, gains] in totals.batches::<2>()? {
            if let Some(gain) = gains.data.iter().find(|&&gain| gain.is_nan() || gain < 0.0) {
                return Err(Error::Value {
                    op: "Ndcg",
                    at: Location::caller(),
                    what: format!("a relevance of {gain}"),
                    next: "pass relevances of 0 or more",
                });
            }
            if scores.shape != gains.shape {
                return Err(foreign("scores and relevances of two shapes".into()));
            }
            for (scores, gains) in lines(scores).zip(lines(gains)) {
                sum += self.of_row(scores, gains);
                rows += 1;
            }
        }
        Ok(Figure::new(sum / rows as f64))
    }
}
