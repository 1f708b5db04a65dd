//! The learning rate range test: which rates a model can be trained with, in some dozen steps.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::batches::Batches;
use super::options::MODEL;
use super::settings::Trainer;
use super::step::Step;
use super::sums::Sums;
use super::watched::value;
use crate::error::{Error, Result};
use crate::nn::Mode;
use crate::plot::Chart;
use crate::wait;

/// Settings of [`Trainer::find_lr`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LrRange {
    /// The first rate.
    pub from: f64,
    /// The last one.
    pub to: f64,
    /// Steps from the one to the other; each multiplies the rate by the same factor.
    pub steps: u64,
    /// How much of the smoothed loss stays from one step to the next, in [0, 1).
    pub smoothing: f64,
    /// The test ends where the smoothed loss is more than so many times its lowest.
    pub diverged: f64,
}

impl Default for LrRange {
    fn default() -> Self {
        LrRange { from: 1e-6, to: 1.0, steps: 100, smoothing: 0.9, diverged: 4.0 }
    }
}

/// What [`Trainer::find_lr`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct LrCurve {
    /// Learning rate, and the smoothed loss at it, in the order of the steps.
    pub points: Vec<(f64, f64)>,
}

impl LrCurve {
    /// The rate at which the loss falls fastest: a good one to begin with, or the peak of a schedule. `None` where it falls
    /// nowhere.
    pub fn suggestion(&self) -> Option<f64> {
        let slope = |pair: &[(f64, f64)]| (pair[1].1 - pair[0].1) / (pair[1].0 / pair[0].0).ln();
        let slopes = self.points.windows(2).map(|pair| ((pair[0].0 * pair[1].0).sqrt(), slope(pair)));
        let steepest = slopes.filter(|(_, slope)| *slope < 0.0).min_by(|a, b| a.1.total_cmp(&b.1));
        steepest.map(|(rate, _)| rate)
    }

    /// The curve as SVG: the loss by the power of ten of the rate.
    pub fn plot(&self) -> String {
        let points = self.points.iter().map(|(rate, loss)| (rate.log10(), *loss));
        let chart = Chart::new("Loss by learning rate").axes("log10 of the learning rate", "smoothed loss");
        chart.line("loss", points).svg()
    }
}

impl Trainer {
    /// Trains for some steps while the rate of the optimizer `model` rises from step to step, and gives the loss at each
    /// (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3, with the rates of Gugger 2018, "How
    /// do you find a good learning rate", that rise by a factor). The closure is that of [`Trainer::fit`].
    ///
    /// Models, optimizers and the position in the data are then what they were before: they are kept in a file meanwhile (in memory, in a
    /// browser).
    /// The loss is smoothed by an exponentially weighted mean without bias.
    ///
    /// # Errors
    /// [`Error::Value`] for rates that cannot be used, of several ranks, or while a schedule gives the rate; else as [`Trainer::fit`]. A loss
    /// that is not finite ends the test, and is no error.
    pub fn find_lr<T, F>(&mut self, train: T, range: &LrRange, step: F) -> Result<LrCurve>
    where
        T: Batches,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()>,
    {
        wait::block_on("Trainer::find_lr", "Trainer::find_lr_async", self.find_lr_async(train, range, step))
    }

    /// [`Trainer::find_lr`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Trainer::find_lr`].
    pub async fn find_lr_async<T, F>(&mut self, mut train: T, range: &LrRange, mut step: F) -> Result<LrCurve>
    where
        T: Batches,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()>,
    {
        let LrRange { from, to, steps, smoothing, diverged } = *range;
        let is_right = from > 0.0 && from < to && to.is_finite() && steps >= 2 && (0.0..1.0).contains(&smoothing);
        if !is_right || diverged.is_nan() {
            let what = format!("a range of rates from {from} to {to} in {steps} steps, smoothed by {smoothing}");
            return Err(self.refuse(what, "pass rising rates above 0, 2 steps or more, and a smoothing below 1"));
        }
        if !self.world.is_alone() {
            let what = format!("a rate is looked for by {} ranks", self.world.size());
            return Err(self.refuse(what, "look for it with one rank, without Trainer::distributed"));
        }
        if train.batches_per_epoch() == 0 {
            return Err(self.refuse("the training data have no batch", "pass data"));
        }
        self.settle().await?;
        // Aside first: what is recorded in an epoch is not part of what is put back.
        let sums = std::mem::replace(&mut self.sums, Sums::new(self.stores[0].1.device()));
        let before = match self.put_aside(unused_path()).await {
            Ok(before) => before,
            Err(error) => {
                self.sums = sums;
                return Err(error);
            }
        };
        let result = self.raise_lr(&mut train, range, &mut step).await;
        self.sums = sums;
        // What a diverged step left is of no concern any more.
        self.take_back(before).await?;
        train.seek(self.position())?;
        result
    }

    async fn raise_lr<T, F>(&mut self, train: &mut T, range: &LrRange, step: &mut F) -> Result<LrCurve>
    where
        T: Batches,
        F: FnMut(&mut Step<'_>, T::Batch) -> Result<()>,
    {
        let LrRange { from, to, steps, smoothing, diverged } = *range;
        let mut points: Vec<(f64, f64)> = vec![];
        let (mut mean, mut weight, mut lowest) = (0.0, 0.0, f64::INFINITY);
        for number in 0..steps {
            let rate = from * (to / from).powf(number as f64 / (steps - 1) as f64);
            match self.optimizer_mut(MODEL) {
                Some(optimizer) => optimizer.set_lr(rate)?,
                None => return Err(self.refuse("there is no optimizer", "give the trainer one by Trainer::optimizer")),
            }
            let batch = match train.next_batch() {
                Some(batch) => batch?,
                // The end of an epoch.
                None => match train.next_batch() {
                    Some(batch) => batch?,
                    None => break,
                },
            };
            let items = train.batch_items();
            let taken = self.call(Mode::Train, items, 1.0, true, |view| step(view, batch));
            let values = match taken.and_then(|()| self.sums.end_batch()) {
                Ok(()) => self.sums.so_far().await,
                Err(error) => Err(error),
            };
            let loss = match values {
                Ok(values) => value(&self.record(values), "loss", self.at)?,
                Err(Error::NonFinite { .. } | Error::LossScale { .. }) => break,
                Err(error) => return Err(error),
            };
            self.sums = Sums::new(self.stores[0].1.device());
            mean = smoothing * mean + (1.0 - smoothing) * loss;
            weight = smoothing * weight + (1.0 - smoothing);
            let smoothed = mean / weight;
            if !smoothed.is_finite() || smoothed > diverged * lowest {
                break;
            }
            lowest = lowest.min(smoothed);
            points.push((rate, smoothed));
        }
        Ok(LrCurve { points })
    }
}

/// A path that nobody else uses. Browsers have no files, and need none.
fn unused_path() -> PathBuf {
    if cfg!(target_family = "wasm") {
        return PathBuf::new();
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("kiln-find-lr-{}-{number}.safetensors", std::process::id()))
}
