//! How well a classifier does: confusion matrix, accuracy, precision, recall, F1.
//!
//! The matrix holds counts, so every figure is exact up to the last division, whatever the order of recording.

use std::fmt;
use std::panic::Location;

use super::scores::check_names;
use crate::error::{Error, Result};

/// Most classes of a matrix; its counts take 8 bytes a pair of classes, 800 MB here.
const MOST_CLASSES: usize = 10_000;

/// How often each class was taken for each class.
///
/// ```
/// # fn main() -> kiln::Result<()> {
/// let mut matrix = kiln::train::metrics::ConfusionMatrix::new(3)?;
/// matrix.record_all(&[0, 1, 2, 2], &[0, 2, 2, 2])?;
/// assert_eq!(matrix.accuracy(), 0.75);
/// println!("{matrix}\n{}", matrix.report());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfusionMatrix {
    classes: usize,
    /// Row: the label; column: the prediction.
    counts: Vec<u64>,
    /// One a class, or none.
    names: Vec<String>,
}

/// Figures of one class, or their average over classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// Share of the predictions of the class that are right; 0 where the class was never predicted.
    pub precision: f64,
    /// Share of the samples of the class that were found; 0 where there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall; 0 where both are.
    pub f1: f64,
    /// Number of samples that have the class as their label.
    pub support: u64,
}

impl ConfusionMatrix {
    /// A matrix of zeros.
    ///
    /// # Errors
    /// [`Error::Value`] for no classes or more than 10,000.
    #[track_caller]
    pub fn new(classes: usize) -> Result<Self> {
        if classes == 0 || classes > MOST_CLASSES {
            return Err(Error::Value {
                op: "ConfusionMatrix::new",
                at: Location::caller(),
                what: format!("{classes} classes, where 1 to {MOST_CLASSES} are possible"),
                next: "pass the number of classes of the data set",
            });
        }
        Ok(ConfusionMatrix { classes, counts: vec![0; classes * classes], names: vec![] })
    }

    /// A matrix of these counts, row by row.
    pub(super) fn of_counts(classes: usize, counts: &[u64], names: &[String]) -> Self {
        ConfusionMatrix { classes, counts: counts.to_vec(), names: names.to_vec() }
    }

    /// Names the classes, in order, for [`report`](Self::report) and whoever shows the matrix.
    ///
    /// # Errors
    /// [`Error::Value`] unless there is one name a class.
    #[track_caller]
    pub fn names(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Result<Self> {
        self.names = names.into_iter().map(Into::into).collect();
        check_names("ConfusionMatrix::names", &self.names, self.classes, Location::caller())?;
        Ok(self)
    }

    /// The name of a class; its number unless it has one.
    pub fn class_name(&self, class: usize) -> String {
        self.names.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Counts one sample.
    ///
    /// # Errors
    /// [`Error::Value`] if the label or the prediction is not a class.
    #[track_caller]
    pub fn record(&mut self, label: u32, prediction: u32) -> Result<()> {
        self.record_all(&[label], &[prediction])
    }

    /// Counts the samples of a batch.
    ///
    /// # Errors
    /// [`Error::Value`] if there are not as many predictions as labels, or one of either is not a class. Nothing is
    /// counted then.
    #[track_caller]
    pub fn record_all(&mut self, labels: &[u32], predictions: &[u32]) -> Result<()> {
        let refuse = |what, next| Error::Value { op: "ConfusionMatrix::record", at: Location::caller(), what, next };
        if labels.len() != predictions.len() {
            let what = format!("{} labels and {} predictions", labels.len(), predictions.len());
            return Err(refuse(what, "pass one prediction for each label"));
        }
        for (what, values) in [("label", labels), ("prediction", predictions)] {
            if let Some(&value) = values.iter().find(|&&value| value as usize >= self.classes) {
                let what = format!("{what} {value} is not below the {} classes of the matrix", self.classes);
                return Err(refuse(what, "make the matrix with the number of classes of the model"));
            }
        }
        for (&label, &prediction) in labels.iter().zip(predictions) {
            self.counts[label as usize * self.classes + prediction as usize] += 1;
        }
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Number of samples recorded.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many samples of class `label` were taken for `prediction`; 0 where either is not a class.
    pub fn count(&self, label: usize, prediction: usize) -> u64 {
        let inside = label < self.classes && prediction < self.classes;
        if inside { self.counts[label * self.classes + prediction] } else { 0 }
    }

    /// Number of right predictions.
    pub fn correct(&self) -> u64 {
        (0..self.classes).map(|class| self.count(class, class)).sum()
    }

    /// Share of right predictions; 0 before anything is recorded.
    pub fn accuracy(&self) -> f64 {
        ratio(self.correct(), self.total())
    }

    /// Figures of each class, in order.
    pub fn scores(&self) -> Vec<Scores> {
        let mut predicted = vec![0u64; self.classes];
        for row in self.counts.chunks_exact(self.classes) {
            predicted.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
        }
        let of_class = |(class, row): (usize, &[u64])| {
            let support = row.iter().sum();
            let hits = row[class];
            Scores {
                precision: ratio(hits, predicted[class]),
                recall: ratio(hits, support),
                // 2PR / (P + R) with P = hits/predicted and R = hits/support, in one division.
                f1: ratio(2 * hits, predicted[class] + support),
                support,
            }
        };
        self.counts.chunks_exact(self.classes).enumerate().map(of_class).collect()
    }

    /// Average of the classes' figures, each class counting the same, also one that never occurred.
    pub fn macro_average(&self) -> Scores {
        self.average(|_| 1.0)
    }

    /// Average of the classes' figures, each class counting as often as it is a label.
    pub fn weighted_average(&self) -> Scores {
        self.average(|scores| scores.support as f64)
    }

    fn average(&self, weight: impl Fn(&Scores) -> f64) -> Scores {
        let scores = self.scores();
        let total: f64 = scores.iter().map(&weight).sum();
        let mean = |figure: fn(&Scores) -> f64| {
            let sum: f64 = scores.iter().map(|scores| weight(scores) * figure(scores)).sum();
            if total == 0.0 { 0.0 } else { sum / total }
        };
        Scores {
            precision: mean(|scores| scores.precision),
            recall: mean(|scores| scores.recall),
            f1: mean(|scores| scores.f1),
            support: self.total(),
        }
    }

    /// Precision, recall, F1 and support of each class and their averages, as a table in the manner of scikit-learn's
    /// `classification_report`.
    pub fn report(&self) -> String {
        let row = |name: &str, scores: &Scores| {
            let Scores { precision, recall, f1, support } = scores;
            format!("{name:>12}  {precision:>9.2} {recall:>9.2} {f1:>9.2} {support:>9}\n")
        };
        let mut report =
            format!("{:>12}  {:>9} {:>9} {:>9} {:>9}\n\n", "", "precision", "recall", "f1-score", "support");
        for (class, scores) in self.scores().iter().enumerate() {
            report += &row(&self.class_name(class), scores);
        }
        let (accuracy, total) = (self.accuracy(), self.total());
        report += &format!("\n{:>12}  {:>9} {:>9} {accuracy:>9.2} {total:>9}\n", "accuracy", "", "");
        report += &row("macro avg", &self.macro_average());
        report + &row("weighted avg", &self.weighted_average())
    }
}

/// The counts, one row a label and one column a prediction.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest = self.counts.iter().copied().max().unwrap_or(0).max(self.classes as u64 - 1);
        let width = largest.to_string().len();
        let corner = "label \\ predicted";
        write!(f, "{corner}")?;
        (0..self.classes).try_for_each(|class| write!(f, "  {class:>width$}"))?;
        for (label, row) in self.counts.chunks_exact(self.classes).enumerate() {
            write!(f, "\n{label:>corner$}", corner = corner.len())?;
            row.iter().try_for_each(|count| write!(f, "  {count:>width$}"))?;
        }
        Ok(())
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten samples of four classes; class 3 is predicted once and never occurs. By hand:
    ///
    /// | class | right | predicted | support | precision | recall | F1 |
    /// | --- | --- | --- | --- | --- | --- | --- |
    /// | 0 | 3 | 4 | 4 | 3/4 | 3/4 | 6/8 |
    /// | 1 | 1 | 2 | 3 | 1/2 | 1/3 | 2/5 |
    /// | 2 | 2 | 3 | 3 | 2/3 | 2/3 | 4/6 |
    /// | 3 | 0 | 1 | 0 | 0 | 0 | 0 |
    fn sample() -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(4).unwrap();
        matrix.record_all(&[0, 0, 0, 0, 1, 1, 1, 2, 2, 2], &[0, 0, 0, 1, 0, 1, 2, 2, 2, 3]).unwrap();
        matrix
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-15, "{found} is not {expected}");
    }

    #[test]
    fn rows_are_labels_and_columns_are_predictions() {
        let matrix = sample();
        assert_eq!((matrix.count(2, 3), matrix.count(3, 2), matrix.count(1, 0), matrix.count(9, 0)), (1, 0, 1, 0));
    }

    #[test]
    fn accuracy_is_the_share_of_the_diagonal() {
        assert_eq!((sample().correct(), sample().total()), (6, 10));
        assert_close(sample().accuracy(), 0.6);
    }

    #[test]
    fn scores_of_the_classes_are_those_computed_by_hand() {
        let expected = [
            (3.0 / 4.0, 3.0 / 4.0, 6.0 / 8.0, 4),
            (1.0 / 2.0, 1.0 / 3.0, 2.0 / 5.0, 3),
            (2.0 / 3.0, 2.0 / 3.0, 4.0 / 6.0, 3),
            (0.0, 0.0, 0.0, 0),
        ];
        for (scores, (precision, recall, f1, support)) in sample().scores().iter().zip(expected) {
            assert_close(scores.precision, precision);
            assert_close(scores.recall, recall);
            assert_close(scores.f1, f1);
            assert_eq!(scores.support, support);
        }
    }

    #[test]
    fn the_macro_average_counts_each_class_once() {
        let average = sample().macro_average();
        assert_close(average.precision, (3.0 / 4.0 + 1.0 / 2.0 + 2.0 / 3.0) / 4.0);
        assert_close(average.recall, (3.0 / 4.0 + 1.0 / 3.0 + 2.0 / 3.0) / 4.0);
        assert_close(average.f1, (3.0 / 4.0 + 2.0 / 5.0 + 2.0 / 3.0) / 4.0);
        assert_eq!(average.support, 10);
    }

    #[test]
    fn the_weighted_average_counts_each_sample_once() {
        let average = sample().weighted_average();
        assert_close(average.precision, (3.0 + 3.0 / 2.0 + 2.0) / 10.0);
        assert_close(average.f1, (3.0 + 6.0 / 5.0 + 2.0) / 10.0);
    }

    #[test]
    fn the_weighted_recall_is_the_accuracy() {
        assert_close(sample().weighted_average().recall, sample().accuracy());
    }

    #[test]
    fn an_empty_matrix_scores_0_and_not_nan() {
        let matrix = ConfusionMatrix::new(2).unwrap();
        let zero = Scores { precision: 0.0, recall: 0.0, f1: 0.0, support: 0 };
        assert_eq!((matrix.accuracy(), matrix.macro_average(), matrix.weighted_average()), (0.0, zero, zero));
    }

    #[test]
    fn the_matrix_prints_as_an_aligned_table() {
        let mut matrix = ConfusionMatrix::new(2).unwrap();
        matrix.record(1, 0).unwrap();
        (0..12).for_each(|_| matrix.record(0, 0).unwrap());
        let expected = "label \\ predicted   0   1\n                0  12   0\n                1   1   0";
        assert_eq!(matrix.to_string(), expected);
    }

    #[test]
    fn the_report_is_that_of_scikit_learn() {
        // classification_report(labels, predictions, zero_division=0), scikit-learn 1.9.
        let expected = [
            "              precision    recall  f1-score   support",
            "",
            "           0       0.75      0.75      0.75         4",
            "           1       0.50      0.33      0.40         3",
            "           2       0.67      0.67      0.67         3",
            "           3       0.00      0.00      0.00         0",
            "",
            "    accuracy                           0.60        10",
            "   macro avg       0.48      0.44      0.45        10",
            "weighted avg       0.65      0.60      0.62        10",
            "",
        ];
        assert_eq!(sample().report().split('\n').collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_batch_with_a_prediction_that_is_no_class_counts_nothing() {
        let mut matrix = ConfusionMatrix::new(2).unwrap();
        let error = matrix.record_all(&[0, 1], &[0, 2]).unwrap_err();
        assert!(error.to_string().contains("prediction 2"), "{error}");
        assert_eq!(matrix.total(), 0);
    }

    #[test]
    fn a_label_that_is_no_class_is_an_error_at_the_call() {
        let error = ConfusionMatrix::new(2).unwrap().record(2, 0).unwrap_err();
        assert!(matches!(&error, Error::Value { at, .. } if at.file() == file!()), "{error}");
    }

    #[test]
    fn a_missing_prediction_is_an_error() {
        assert!(ConfusionMatrix::new(2).unwrap().record_all(&[0, 1], &[0]).is_err());
    }

    #[test]
    fn a_number_of_classes_that_makes_no_sense_is_an_error() {
        assert!(ConfusionMatrix::new(0).is_err());
        assert!(ConfusionMatrix::new(usize::MAX).is_err());
    }
}
