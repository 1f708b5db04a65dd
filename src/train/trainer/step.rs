//! What a training closure has at hand: where the run is, metrics, optimizers.

use std::panic::Location;

use super::callback::Named;
use super::options::{MODEL, NotFinite};
use super::sums::Sums;
use crate::device::Device;
use crate::error::{Error, Problem, Result};
use crate::nn::Mode;
use crate::optim::Optimizer;
use crate::tensor::Tensor;
use crate::train::metrics::{Kind, Measurement};

/// Steps that were refused because they are not finite.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// How many there have been.
    pub count: u64,
    /// Those that callbacks have not been told of.
    pub untold: Vec<Error>,
}

impl Refusals {
    /// `Err` unless the policy lets training go on after this error.
    pub fn forgive(&mut self, error: Error, policy: NotFinite) -> Result<()> {
        let (Error::NonFinite { later, .. } | Error::LossScale { later, .. }) = &error else { return Err(error) };
        let NotFinite::Skip(most) = policy else { return Err(error) };
        self.count += 1 + later;
        if self.count > most {
            return Err(error);
        }
        self.untold.push(error);
        Ok(())
    }
}

/// One batch of a fit, in training or in validation: the closure's first argument.
pub struct Step<'a> {
    pub(super) mode: Mode,
    pub(super) epoch: u64,
    pub(super) number: u64,
    pub(super) items: f64,
    /// What a loss is multiplied by: a step of several batches takes the mean of their losses.
    pub(super) share: f64,
    /// True for the last batch of a step.
    pub(super) updates: bool,
    pub(super) device: &'a Device,
    pub(super) sums: &'a mut Sums,
    pub(super) optimizers: &'a mut [Named],
    pub(super) not_finite: NotFinite,
    pub(super) refusals: &'a mut Refusals,
    /// What was wrong with a metric.
    pub(super) problem: Option<Error>,
}

impl Step<'_> {
    /// What to pass to layers: [`Mode::Train`], or [`Mode::Eval`] for the batches of a validation.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// False in a validation, within which no gradient is recorded.
    pub fn is_training(&self) -> bool {
        self.mode == Mode::Train
    }

    /// The device of the model that the trainer was made with.
    pub fn device(&self) -> &Device {
        self.device
    }

    /// The epoch; the first is 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Steps of the whole run that were queued before this one.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Items of the batch, as its loader says: by how much its metrics count.
    pub fn items(&self) -> u64 {
        self.items as u64
    }

    /// Records a number of this batch, such as an accuracy: one element of any dtype, which is cast to f32. The history has
    /// its mean over the items of the epoch, in a validation under the name with `val_` in front.
    ///
    /// It is summed on the device. Record it before the step that it belongs to: then it is computed with it, in the same
    /// submission. What is wrong with it, an error that it carries or a shape of more elements, ends the fit when the
    /// closure returns.
    ///
    /// Or a [`Metric`](crate::train::metrics::Metric) of the batch, whose totals make one figure of an epoch or a validation:
    /// what is no mean over items, such as F1 or the area under a curve. It is read once; the history has its figure, and
    /// [`Event::Figures`](super::Event::Figures) its parts by class and its confusion matrix.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// use kiln::train::Trainer;
    /// use kiln::train::metrics::{Average, Confusion, Metric, Score};
    ///
    /// # let device = Device::cpu();
    /// # let digits = kiln::data::digits();
    /// # let params = ParamStore::new(&device, 42);
    /// # let net = Linear::new(&params.root().child("fc"), 64, 10);
    /// # let (train, test) = (digits.train.limit(256), digits.test.limit(128));
    /// # let adamw = AdamW::new(&params, AdamWConfig { lr: 0.01, ..Default::default() });
    /// let f1 = Confusion::new(10)?.score(Score::FBeta(1.0, Average::Macro));
    /// let history = Trainer::new(&params).optimizer(adamw).epochs(1).fit(
    ///     train.batches(64).shuffle(42),
    ///     test.batches(50),
    ///     |step, batch| {
    ///         let labels = step.device().labels(&batch.labels);
    ///         let logits = net.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
    ///         step.metric("f1", f1.clone().of(&logits, &labels));
    ///         step.minimise(&logits.cross_entropy(&labels))
    ///     },
    /// )?;
    /// assert!(history.get("val_f1").is_some_and(|f1| (0.0..=1.0).contains(&f1)));
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn metric(&mut self, name: &str, value: impl Into<Measurement>) {
        let at = Location::caller();
        let added = match value.into().0 {
            Kind::Number(number) => self.sums.add(name, &number, self.items, at),
            Kind::Metric(metric, batch) => self.sums.add_stream(name, metric, &batch, at),
        };
        if let Err(error) = added {
            self.problem.get_or_insert(error);
        }
    }

    /// Records the loss of this batch as `loss` and, in training, takes a step that lowers it: backward pass and update in one
    /// submission, without waiting. In a validation it only records.
    ///
    /// With [`accumulate`](super::Trainer::accumulate) the first batches of a step gather gradients, and the last one
    /// updates; the loss of a step is the mean of those of its batches, by their items.
    ///
    /// # Errors
    /// As [`Optimizer::step`]; [`Error::Value`] if the trainer has no optimizer. Pass it on by `?`, or return it.
    #[track_caller]
    pub fn minimise(&mut self, loss: &Tensor) -> Result<()> {
        self.take(MODEL, "loss", loss, Location::caller())
    }

    /// [`Step::minimise`] with the optimizer of this name, for a program that has several. The loss is recorded as
    /// `NAME_loss`.
    ///
    /// # Errors
    /// As [`Step::minimise`].
    #[track_caller]
    pub fn minimise_with(&mut self, name: &str, loss: &Tensor) -> Result<()> {
        self.take(name, &format!("{name}_loss"), loss, Location::caller())
    }

    fn take(&mut self, name: &str, metric: &str, loss: &Tensor, at: &'static Location<'static>) -> Result<()> {
        self.sums.add(metric, loss, self.items, at)?;
        if !self.is_training() {
            return Ok(());
        }
        let scaled = if self.share == 1.0 { loss.clone() } else { loss * self.share };
        let updates = self.updates;
        loop {
            let optimizer = self.named(name, at)?;
            let result = if updates { optimizer.step(&scaled) } else { optimizer.accumulate(&scaled) };
            match result {
                Ok(()) => return Ok(()),
                // It is that of an earlier step, which has left no trace. This one has not been taken yet.
                Err(error) => self.refusals.forgive(error, self.not_finite)?,
            }
        }
    }

    /// An optimizer by name, for what [`Step::minimise`] does not do: gradients of one's own by
    /// [`Optimizer::step_with`]. The one without a name of its own is `model`.
    ///
    /// # Errors
    /// [`Error::Value`] if the trainer has none of this name.
    #[track_caller]
    pub fn optimizer(&mut self, name: &str) -> Result<&mut (dyn Optimizer + Send + 'static)> {
        self.named(name, Location::caller())
    }

    fn named(&mut self, name: &str, at: &'static Location<'static>) -> Result<&mut (dyn Optimizer + Send + 'static)> {
        match self.optimizers.iter().position(|(known, _)| known == name) {
            Some(number) => Ok(&mut *self.optimizers[number].1),
            None => {
                let names: Vec<&str> = self.optimizers.iter().map(|(name, _)| name.as_str()).collect();
                let what = format!("no optimizer `{name}` among [{}]", names.join(", "));
                let next = "give the trainer one by Trainer::optimizer or Trainer::optimizer_named";
                Err(Problem::Value(what, next).at("minimise", at))
            }
        }
    }
}
