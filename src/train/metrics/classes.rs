//! Metrics of predicted classes: accuracy, top-k, and all that a confusion matrix tells.

use std::panic::Location;

use super::metric::foreign;
use super::scores::{self, Score};
use super::{ConfusionMatrix, Figure, Metric, Observation, Totals};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Most classes of a matrix on the device: its counts take 8 bytes a pair of classes there.
const MOST_CLASSES: usize = 10_000;

/// Share of predictions that are right.
///
/// Predictions are logits or probabilities, `[n, classes, ..]` (as PyTorch has them) or `[.., classes]`, of which the
/// largest counts, or classes, u32 or i32, shaped as the targets. Targets are classes, u32 or i32, `[n, ..]`. NaN before
/// the first batch, and where all items are ignored. scikit-learn: `accuracy_score`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accuracy {
    ignore: Option<i64>,
}

impl Accuracy {
    /// Accuracy over all items.
    pub fn new() -> Accuracy {
        Accuracy::default()
    }

    /// Leaves out items with this target (padding; -100 is usual).
    pub fn ignore(self, target: i64) -> Accuracy {
        Accuracy { ignore: Some(target) }
    }
}

impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [predicted, targets] = classes("Accuracy", predictions, targets, None)?;
        Ok(hits(&predicted.eq(&targets), &targets, self.ignore))
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        share_of_hits(totals)
    }
}

/// Share of items whose target is among the k classes with the largest scores; of equal scores the first classes count.
///
/// Predictions are logits or probabilities, `[n, classes, ..]` or `[.., classes]`; targets are classes, u32 or i32. An
/// item whose target's score is NaN is a miss. scikit-learn: `top_k_accuracy_score`.
#[derive(Debug, Clone, Copy)]
pub struct TopK {
    k: usize,
    ignore: Option<i64>,
}

impl TopK {
    /// The `k` largest; with 1 it is [`Accuracy`]. With 0 nothing is a hit.
    pub fn new(k: usize) -> TopK {
        TopK { k, ignore: None }
    }

    /// Leaves out items with this target.
    pub fn ignore(self, target: i64) -> TopK {
        TopK { ignore: Some(target), ..self }
    }
}

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top_{}", self.k)
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let scores = rows("TopK", predictions, targets)?;
        let targets = flat_targets("TopK", targets)?;
        let classes = scores.dims()[1];
        let numbers = scores.device().arange(classes, DType::I32).reshape(&[1, classes]);
        let target = targets.unsqueeze(1);
        let zero = scores.device().zeros(&[]);
        let own = numbers.eq(&target).where_(&scores, &zero).sum_keep(1);
        // Those before the target: a larger score, or an equal one of an earlier class.
        let before = scores.gt(&own).logical_or(&scores.eq(&own).logical_and(&numbers.lt(&target)));
        let is_class = targets.ge(0.0).logical_and(&targets.lt(classes));
        let known = own.squeeze(1).is_nan().logical_not().logical_and(&is_class);
        let hit = before.sum(1).lt(self.k).logical_and(&known);
        Ok(hits(&hit, &targets, self.ignore))
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        share_of_hits(totals)
    }
}

/// Counts of misses, of hits and of ignored items.
fn hits(hit: &Tensor, targets: &Tensor, ignore: Option<i64>) -> Observation {
    let code = hit.cast(DType::U32);
    let code = match ignore {
        Some(ignored) => targets.eq(ignored).where_(&number(&code, 2.0), &code),
        None => code,
    };
    Observation { counts: Some(code.bincount(3)), ..Observation::default() }
}

fn share_of_hits(totals: &Totals) -> Result<Figure> {
    let (misses, hits) = (totals.count(0)? as f64, totals.count(1)? as f64);
    Ok(Figure::new(hits / (hits + misses)))
}

/// How often each class was taken for each class, and any figure that follows from it ([`Score`]).
///
/// Predictions and targets are as for [`Accuracy`]; for [`Confusion::binary`] also scores shaped as the targets.
/// Segmentation is the same with more axes: logits `[n, classes, h, w]`, targets `[n, h, w]`. A target or prediction
/// that is no class makes the figure [`Error::Value`].
#[derive(Debug, Clone)]
pub struct Confusion {
    classes: usize,
    names: Vec<String>,
    score: Score,
    ignore: Option<i64>,
    threshold: Option<f64>,
}

impl Confusion {
    /// Of so many classes; its figure is [`Score::Accuracy`].
    ///
    /// # Errors
    /// [`Error::Value`] for no classes, or more than 10,000.
    #[track_caller]
    pub fn new(classes: usize) -> Result<Confusion> {
        if classes == 0 || classes > MOST_CLASSES {
            return Err(Error::Value {
                op: "Confusion::new",
                at: Location::caller(),
                what: format!("{classes} classes, where 1 to {MOST_CLASSES} are possible"),
                next: "pass the number of classes of the data set",
            });
        }
        Ok(Confusion { classes, names: vec![], score: Score::Accuracy, ignore: None, threshold: None })
    }

    /// Of two classes, by one score an item: class 1 from `threshold` on (0 for logits, 0.5 for probabilities).
    pub fn binary(threshold: f64) -> Confusion {
        Confusion { classes: 2, names: vec![], score: Score::Accuracy, ignore: None, threshold: Some(threshold) }
    }

    /// Names the classes, in order.
    ///
    /// # Errors
    /// [`Error::Value`] unless there is one name a class.
    #[track_caller]
    pub fn names(self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<Confusion> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        scores::check_names("Confusion::names", &names, self.classes, Location::caller())?;
        Ok(Confusion { names, ..self })
    }

    /// The figure that is made of it.
    pub fn score(self, score: Score) -> Confusion {
        Confusion { score, ..self }
    }

    /// Leaves out items with this target (a border, padding).
    pub fn ignore(self, target: i64) -> Confusion {
        Confusion { ignore: Some(target), ..self }
    }

    fn of_matrix(&self, matrix: ConfusionMatrix) -> Figure {
        let names = (0..self.classes).map(|class| matrix.class_name(class));
        let by_class = names.zip(matrix.score_by_class(self.score)).collect();
        Figure { value: matrix.score(self.score), by_class, matrix: Some(matrix), ..Figure::default() }
    }
}

impl Metric for Confusion {
    fn name(&self) -> String {
        self.score.name()
    }

    /// Counts of the pairs, then of what is ignored and of what is no class.
    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [predicted, targets] = classes("Confusion", predictions, targets, self.threshold)?;
        let pairs = self.classes * self.classes;
        let is_class = |x: &Tensor| x.ge(0.0).logical_and(&x.lt(self.classes));
        let known = is_class(&predicted).logical_and(&is_class(&targets));
        let pair = &targets * self.classes as f64 + &predicted;
        let mut code = known.where_(&pair, &number(&pair, (pairs + 1) as f64));
        if let Some(ignored) = self.ignore {
            code = targets.eq(ignored).where_(&number(&pair, pairs as f64), &code);
        }
        Ok(Observation { counts: Some(code.bincount(pairs + 2)), ..Observation::default() })
    }

    #[track_caller]
    fn figure(&self, totals: &Totals) -> Result<Figure> {
        let pairs = self.classes * self.classes;
        let counts = totals.exactly(pairs + 2)?;
        if counts.iter().try_fold(0u64, |all, &count| all.checked_add(count)).is_none() {
            return Err(foreign("counts that add up to more than 64 bits hold".into()));
        }
        let wrong = totals.count(pairs + 1)?;
        if wrong > 0 {
            return Err(Error::Value {
                op: "Confusion",
                at: Location::caller(),
                what: format!("{wrong} items have a target or a prediction that is none of {} classes", self.classes),
                next: "make it with the number of classes of the model, or ignore what is padding",
            });
        }
        Ok(self.of_matrix(ConfusionMatrix::of_counts(self.classes, &counts[..pairs], &self.names)))
    }

    fn empty(&self) -> Figure {
        self.of_matrix(ConfusionMatrix::of_counts(self.classes, &vec![0; self.classes * self.classes], &self.names))
    }
}

/// A number as a tensor beside another.
fn number(beside: &Tensor, value: f64) -> Tensor {
    beside.device().full(&[], value, beside.meta().dtype)
}

/// Predicted classes and targets, i32, `[n]` each.
fn classes(op: &'static str, predictions: &Tensor, targets: &Tensor, threshold: Option<f64>) -> Result<[Tensor; 2]> {
    let flat = flat_targets(op, targets)?;
    let same = predictions.dims() == targets.dims();
    let predicted = match (predictions.meta().dtype.is_float(), threshold) {
        (true, Some(threshold)) if same => predictions.ge(threshold),
        (false, _) if same => predictions.clone(),
        (true, _) => rows(op, predictions, targets)?.argmax(1),
        (false, _) => return Err(misfit(op, predictions, targets)),
    };
    Ok([predicted.cast(DType::I32).reshape(&[flat.dims().elements()]), flat])
}

/// Targets as i32, `[n]`.
pub(super) fn flat_targets(op: &'static str, targets: &Tensor) -> Result<Tensor> {
    let dtype = targets.meta().dtype;
    if dtype.is_float() {
        let what = format!("targets are classes, u32 or i32, not {dtype}");
        return Err(Error::DType { op, at: Location::caller(), what });
    }
    Ok(targets.cast(DType::I32).reshape(&[targets.dims().elements()]))
}

/// Scores as rows `[n, classes]` in f32, for targets that have all axes but the classes': that is the second axis, or the last.
pub(super) fn rows(op: &'static str, scores: &Tensor, targets: &Tensor) -> Result<Tensor> {
    if !scores.meta().dtype.is_float() {
        let what = format!("scores are floats, not {}", scores.meta().dtype);
        return Err(Error::DType { op, at: Location::caller(), what });
    }
    let (dims, rank) = (scores.dims(), scores.dims().rank());
    let without = |axis: usize| [&dims[..axis], &dims[axis + 1..]].concat() == targets.dims()[..];
    let axis = match rank {
        2.. if without(1) => 1,
        2.. if without(rank - 1) => rank - 1,
        _ => return Err(misfit(op, scores, targets)),
    };
    let classes = dims[axis];
    Ok(scores.cast(DType::F32).movedim(axis, rank - 1).reshape(&[targets.dims().elements(), classes]))
}

fn misfit(op: &'static str, predictions: &Tensor, targets: &Tensor) -> Error {
    let what = format!("predictions of shape {} for targets of shape {}", predictions.dims(), targets.dims());
    let next = "pass scores with an axis of classes more than the targets, or classes of their shape";
    Error::Shape { op, at: Location::caller(), what, next }
}
