//! How well a model does, over an epoch: figures that are added up on the device and read once.
//!
//! [`Metrics`] is a set of them. An update records a few reductions of a batch and adds them to what there is; nothing
//! waits for the device until [`Metrics::compute`] reads the totals.
//!
//! ```
//! use kiln::prelude::*;
//! use kiln::train::metrics::{Accuracy, Average, Confusion, Metrics, Score};
//!
//! let device = Device::cpu();
//! let f1 = Confusion::new(3)?.names(["cat", "dog", "owl"])?.score(Score::FBeta(1.0, Average::Macro));
//! let mut metrics = Metrics::new().add(Accuracy::new()).add(f1);
//! let logits = device.tensor(&[2.0f32, 0.0, 0.0, 0.0, 3.0, 1.0, 0.0, 1.0, 0.0], &[3, 3]);
//! metrics.update(&logits, &device.labels(&[0, 1, 2]))?; // for each batch
//! let figures = metrics.compute()?; // once an epoch
//! assert_eq!(figures.value("accuracy"), Some(2.0 / 3.0));
//! assert_eq!(figures.get("f1_macro").unwrap().by_class[0], ("cat".to_string(), 1.0));
//! metrics.reset();
//! # Ok::<(), Error>(())
//! ```
//!
//! | metrics | which |
//! | --- | --- |
//! | classes | [`Accuracy`], [`TopK`], [`Confusion`] with any [`Score`]: precision, recall, F-beta, MCC, kappa, IoU, Dice |
//! | probabilities | [`CalibrationError`], [`Perplexity`], [`Auroc`], [`AveragePrecision`] |
//! | numbers | [`Residual`] (MAE, MSE, RMSE, MAPE), [`R2`] |
//! | images | [`Psnr`], [`Ssim`] |
//! | rankings, sequences | [`Ndcg`], [`EditDistance`] |
//!
//! **What is exact.** Counts have 64 bits. Sums over batches are added in pairs of equal numbers of batches, so that
//! the error grows with the logarithm of their number: a hundred thousand batches lose no more digits than a few.
//! [`Auroc`], [`AveragePrecision`], [`Ndcg`] and [`EditDistance`] need every item at once; those keep the batches on
//! the device until they are read, and are worked out on the host.
//!
//! **When.** In a loop that trains, update before the optimizer's step: the step's one submission computes the totals
//! too. Elsewhere, and for what depends on targets alone, an update submits what the one before it has recorded. From
//! the second batch on plans are found, not made; another length of the last batch is another plan.
//!
//! **In a fit.** A training closure records a metric by `step.metric("f1", confusion.of(&logits, &labels))`
//! ([`Metric::of`]): the trainer has the totals then, of training and of validation apart.
//!
//! **Checkpoints.** [`Metrics`] is a [`Part`](super::checkpoint::Part): a run that stops within an epoch goes on with
//! the same totals.

mod accumulate;
mod calibration;
mod checkpoint;
mod classes;
mod edit_distance;
mod images;
mod matrix;
mod metric;
mod perplexity;
mod ranking;
mod regression;
mod scores;
mod set;
mod streams;

pub use calibration::CalibrationError;
pub use classes::{Accuracy, Confusion, TopK};
pub use edit_distance::EditDistance;
pub use images::{Psnr, Ssim};
pub use matrix::{ConfusionMatrix, Scores};
pub(crate) use metric::Kind;
pub use metric::{Figure, Figures, Measurement, Metric, Observation, Totals};
pub use perplexity::Perplexity;
pub use ranking::{Auroc, AveragePrecision, Ndcg};
pub use regression::{R2, Residual};
pub use scores::{Average, Score};
pub use set::Metrics;
pub(crate) use streams::{KIND, Streams};
