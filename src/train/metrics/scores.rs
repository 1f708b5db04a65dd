//! Figures that follow from a confusion matrix, with scikit-learn's conventions.

use std::panic::Location;

use super::ConfusionMatrix;
use crate::error::{Error, Result};

/// A figure of a confusion matrix.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// Share of right predictions; of one class, its recall. `accuracy_score`.
    Accuracy,
    /// Share of the predictions of a class that are right. `precision_score`.
    Precision(Average),
    /// Share of the items of a class that were found. `recall_score`.
    Recall(Average),
    /// `(1 + b^2) P R / (b^2 P + R)` of precision P and recall R: with 1 their harmonic mean, with 2 recall counts
    /// more, with 0.5 precision. `fbeta_score`.
    FBeta(f64, Average),
    /// Matthews correlation coefficient, from -1 to 1; of more than two classes as J. Gorodkin has it ("Comparing two
    /// K-category assignments by a K-category correlation coefficient", 2004). 0 where labels or predictions are all of
    /// one class. `matthews_corrcoef`.
    Mcc,
    /// Agreement beyond chance: J. Cohen, "A coefficient of agreement for nominal scales", 1960. NaN where labels and
    /// predictions are all of the same one class. `cohen_kappa_score`.
    CohenKappa,
    /// Intersection over union. `jaccard_score`.
    Iou(Average),
    /// Twice the intersection over the sum of both: F-beta with 1, as segmentation calls it.
    Dice(Average),
}

/// How figures of classes become one. A figure of a class that divides by nothing is 0 (`zero_division=0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// Each class counts the same, also one that never occurred.
    Macro,
    /// All classes' counts are added first: each item counts the same.
    Micro,
    /// Each class counts as often as it is a label.
    Weighted,
}

impl Average {
    fn suffix(self) -> &'static str {
        match self {
            Average::Macro => "macro",
            Average::Micro => "micro",
            Average::Weighted => "weighted",
        }
    }
}

impl Score {
    /// Its name: `f1_macro`, `mcc`.
    pub fn name(self) -> String {
        match self {
            Score::Accuracy => "accuracy".into(),
            Score::Precision(average) => format!("precision_{}", average.suffix()),
            Score::Recall(average) => format!("recall_{}", average.suffix()),
            Score::FBeta(beta, average) => format!("f{beta}_{}", average.suffix()),
            Score::Mcc => "mcc".into(),
            Score::CohenKappa => "cohen_kappa".into(),
            Score::Iou(average) => format!("iou_{}", average.suffix()),
            Score::Dice(average) => format!("dice_{}", average.suffix()),
        }
    }

    /// The figure of a class, or of several together, from their counts; `None` where it has no meaning for a class.
    fn of(self, counts: Counts) -> Option<f64> {
        let Counts { hits, predicted, support } = counts;
        let (hits, predicted, support) = (hits as f64, predicted as f64, support as f64);
        let ratio = |part: f64, whole: f64| if whole == 0.0 { 0.0 } else { part / whole };
        Some(match self {
            Score::Accuracy | Score::Recall(_) => ratio(hits, support),
            Score::Precision(_) => ratio(hits, predicted),
            // In one division: P is hits / predicted, R is hits / support.
            Score::FBeta(beta, _) => ratio((1.0 + beta * beta) * hits, beta * beta * support + predicted),
            Score::Iou(_) => ratio(hits, predicted + support - hits),
            Score::Dice(_) => ratio(2.0 * hits, predicted + support),
            Score::Mcc | Score::CohenKappa => return None,
        })
    }

    fn average(self) -> Average {
        match self {
            Score::Precision(average)
            | Score::Recall(average)
            | Score::FBeta(_, average)
            | Score::Iou(average)
            | Score::Dice(average) => average,
            Score::Accuracy | Score::Mcc | Score::CohenKappa => Average::Micro,
        }
    }
}

/// What a class has in the matrix.
#[derive(Debug, Clone, Copy)]
struct Counts {
    hits: u64,
    predicted: u64,
    support: u64,
}

impl ConfusionMatrix {
    /// A figure of all classes.
    ///
    /// ```
    /// use kiln::train::metrics::{Average, ConfusionMatrix, Score};
    ///
    /// let mut matrix = ConfusionMatrix::new(2)?;
    /// matrix.record_all(&[0, 0, 1, 1], &[0, 1, 1, 1])?;
    /// assert_eq!(matrix.score(Score::Iou(Average::Macro)), (1.0 / 2.0 + 2.0 / 3.0) / 2.0);
    /// # Ok::<(), kiln::Error>(())
    /// ```
    pub fn score(&self, score: Score) -> f64 {
        let counts = self.class_counts();
        let sum = |of: fn(&Counts) -> u64| counts.iter().map(of).sum::<u64>();
        match score {
            Score::Mcc => return self.mcc(&counts),
            Score::CohenKappa => return self.kappa(&counts),
            _ => {}
        }
        let weight = match score.average() {
            Average::Micro => {
                let all =
                    Counts { hits: sum(|c| c.hits), predicted: sum(|c| c.predicted), support: sum(|c| c.support) };
                return score.of(all).unwrap_or(f64::NAN);
            }
            Average::Macro => |_: &Counts| 1.0,
            Average::Weighted => |counts: &Counts| counts.support as f64,
        };
        let (mut total, mut weights) = (0.0, 0.0);
        for counts in &counts {
            total += weight(counts) * score.of(*counts).unwrap_or(f64::NAN);
            weights += weight(counts);
        }
        if weights == 0.0 { 0.0 } else { total / weights }
    }

    /// The same of each class alone, in order; nothing for a figure that has no meaning there ([`Score::Mcc`],
    /// [`Score::CohenKappa`]).
    pub fn score_by_class(&self, score: Score) -> Vec<f64> {
        self.class_counts().into_iter().filter_map(|counts| score.of(counts)).collect()
    }

    fn class_counts(&self) -> Vec<Counts> {
        let classes = 0..self.classes();
        let mut counts: Vec<Counts> =
            classes.clone().map(|class| Counts { hits: self.count(class, class), predicted: 0, support: 0 }).collect();
        for label in classes.clone() {
            for prediction in classes.clone() {
                counts[label].support += self.count(label, prediction);
                counts[prediction].predicted += self.count(label, prediction);
            }
        }
        counts
    }

    fn mcc(&self, counts: &[Counts]) -> f64 {
        let (total, correct) = (self.total() as f64, self.correct() as f64);
        let sum = |of: fn(&Counts) -> f64| counts.iter().map(of).sum::<f64>();
        let both = sum(|c| c.predicted as f64 * c.support as f64);
        let predicted = total * total - sum(|c| (c.predicted as f64).powi(2));
        let labelled = total * total - sum(|c| (c.support as f64).powi(2));
        let scale = (predicted * labelled).sqrt();
        if scale == 0.0 { 0.0 } else { (correct * total - both) / scale }
    }

    fn kappa(&self, counts: &[Counts]) -> f64 {
        let total = self.total() as f64;
        let chance: f64 = counts.iter().map(|c| c.predicted as f64 * c.support as f64).sum();
        // Both times total^2, so that one class alone is 0 / 0 and not nearly so.
        (self.correct() as f64 * total - chance) / (total * total - chance)
    }
}

/// `Err` unless there is one name a class.
pub(super) fn check_names(
    op: &'static str,
    names: &[String],
    classes: usize,
    at: &'static Location<'static>,
) -> Result<()> {
    if names.len() == classes {
        return Ok(());
    }
    let what = format!("{} names for {classes} classes", names.len());
    Err(Error::Value { op, at, what, next: "pass one name for each class, in order" })
}
