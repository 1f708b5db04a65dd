//! Losses composed of other ops, formed in f32 for f16.
//!
//! A loss compares shapes instead of broadcasting: one that broadcasts is most often a mistake. Those of one word take the
//! mean; those that take a [`Reduction`] give one number, or the losses of all elements.

mod classes;
mod labels;
mod pairs;

use crate::dtype::DType;
use crate::error::Problem;
use crate::tensor::{Tensor, is_mixed};

pub use super::reduction::Reduction;
pub use classes::{BceOptions, FocalOptions};
pub use labels::{MultiMarginOptions, NllOptions};
pub use pairs::TripletOptions;

/// ln(2 pi) / 2.
const HALF_LOG_TAU: f64 = 0.918_938_533_204_672_8;

/// Options of [`Tensor::poisson_nll_loss`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PoissonOptions {
    /// True if the prediction is the logarithm of the rate.
    pub log_input: bool,
    /// Adds Stirling's approximation of ln(target!) for targets above 1.
    pub full: bool,
    /// Added to a rate before its logarithm is taken.
    pub eps: f64,
    /// What becomes of the elements' losses.
    pub reduction: Reduction,
}

impl Default for PoissonOptions {
    fn default() -> Self {
        PoissonOptions { log_input: true, full: false, eps: 1e-8, reduction: Reduction::Mean }
    }
}

/// Options of [`Tensor::gaussian_nll_loss`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GaussianOptions {
    /// Adds ln(2 pi) / 2.
    pub full: bool,
    /// The least variance; the gradient passes one that is below as it is.
    pub eps: f64,
    /// What becomes of the elements' losses.
    pub reduction: Reduction,
}

impl Default for GaussianOptions {
    fn default() -> Self {
        GaussianOptions { full: false, eps: 1e-6, reduction: Reduction::Mean }
    }
}

/// A loss of these inputs, all floats, unless `check` refuses them: what `form` makes of them in f32, in f16 again where
/// all of them were.
#[track_caller]
fn loss(
    op: &'static str,
    inputs: &[&Tensor],
    check: impl FnOnce() -> Result<(), Problem>,
    form: impl FnOnce(&[Tensor]) -> Tensor,
) -> Tensor {
    if let Some(broken) = inputs.iter().find(|input| input.error().is_some()) {
        return (*broken).clone();
    }
    let floats = || match inputs.iter().map(|input| input.meta().dtype).find(|dtype| !dtype.is_float()) {
        Some(dtype) => Err(Problem::DType(format!("it takes f32 and f16, not {dtype}: cast it"))),
        None => Ok(()),
    };
    if let Err(problem) = floats().and_then(|()| check()) {
        return inputs[0].problem(op, problem);
    }
    let wide: Vec<Tensor> = inputs.iter().map(|input| input.widen()).collect();
    let formed = form(&wide);
    let half = inputs.iter().all(|input| input.meta().dtype == DType::F16);
    if half && !is_mixed(inputs) { formed.cast(DType::F16) } else { formed }
}

/// `Err` unless both have one shape.
fn alike(prediction: &Tensor, target: &Tensor) -> Result<(), Problem> {
    if prediction.dims() == target.dims() {
        return Ok(());
    }
    let what = format!("the shapes {} and {} of prediction and target differ", prediction.dims(), target.dims());
    Err(Problem::Shape(what, "reshape one of them"))
}

/// `Err` unless a setting is finite and above 0.
fn positive(name: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a finite number above 0"))
}

/// `Err` unless a setting is finite and not negative.
fn not_negative(name: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a finite number that is not negative"))
}

impl Tensor {
    /// Mean of the squared differences from `target`, as `torch.nn.functional.mse_loss`: a scalar.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape: a loss that broadcasts is most often a
    /// mistake.
    #[track_caller]
    pub fn mse_loss(&self, target: &Tensor) -> Tensor {
        self.mse_loss_with(target, Reduction::Mean)
    }

    /// As [`Tensor::mse_loss`], reduced as `reduction` says.
    #[track_caller]
    pub fn mse_loss_with(&self, target: &Tensor, reduction: Reduction) -> Tensor {
        match self.differing("mse_loss", target) {
            Some(error) => error,
            None => self.loss_formed_wide(target, |x, target| reduction.of(&(x - target).square())),
        }
    }

    /// Mean of the absolute differences from `target`, as `torch.nn.functional.l1_loss`: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`].
    #[track_caller]
    pub fn l1_loss(&self, target: &Tensor) -> Tensor {
        self.l1_loss_with(target, Reduction::Mean)
    }

    /// As [`Tensor::l1_loss`], reduced as `reduction` says.
    #[track_caller]
    pub fn l1_loss_with(&self, target: &Tensor, reduction: Reduction) -> Tensor {
        match self.differing("l1_loss", target) {
            Some(error) => error,
            None => self.loss_formed_wide(target, |x, target| reduction.of(&(x - target).abs())),
        }
    }

    /// Mean of d^2 / 2 for differences |d| up to `delta` and delta (|d| - delta / 2) beyond (Huber 1964), as
    /// `torch.nn.functional.huber_loss`: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`], and [`crate::Error::Value`] unless `delta` is positive.
    #[track_caller]
    pub fn huber_loss(&self, target: &Tensor, delta: f64) -> Tensor {
        self.huber_loss_with(target, delta, Reduction::Mean)
    }

    /// As [`Tensor::huber_loss`], reduced as `reduction` says.
    #[track_caller]
    pub fn huber_loss_with(&self, target: &Tensor, delta: f64, reduction: Reduction) -> Tensor {
        if delta.is_nan() || delta <= 0.0 {
            let what = format!("delta is {delta}");
            return self.problem("huber_loss", Problem::Value(what, "pass a delta above 0"));
        }
        if let Some(error) = self.differing("huber_loss", target) {
            return error;
        }
        // With c = d between -delta and delta: c (d - c / 2). Its gradient is c, by no difference of other terms.
        self.loss_formed_wide(target, |x, target| {
            let difference = x - target;
            let near = difference.clamp(-delta, delta);
            reduction.of(&(&near * (difference - near.scale(0.5))))
        })
    }

    /// Mean of d^2 / (2 beta) for differences |d| below `beta` and |d| - beta / 2 beyond (Girshick 2015), as
    /// `torch.nn.functional.smooth_l1_loss`; a beta of 0 gives [`Tensor::l1_loss`].
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`], and [`crate::Error::Value`] for a `beta` that is negative or not finite.
    #[track_caller]
    pub fn smooth_l1_loss(&self, target: &Tensor, beta: f64, reduction: Reduction) -> Tensor {
        let check = || alike(self, target).and_then(|()| not_negative("beta", beta));
        loss("smooth_l1_loss", &[self, target], check, |x| {
            let difference = &x[0] - &x[1];
            if beta == 0.0 {
                return reduction.of(&difference.abs());
            }
            let near = difference.clamp(-beta, beta);
            reduction.of(&(&near * (difference - near.scale(0.5)) * (1.0 / beta)))
        })
    }

    /// Negative log likelihood of counts `target` under Poisson distributions, as
    /// `torch.nn.functional.poisson_nll_loss`: e^x - t x of logarithms x of the rates, or x - t ln(x + eps) of the rates.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`], [`crate::Error::DType`] for integers, and [`crate::Error::Value`] for an `eps` that is
    /// negative or not finite.
    #[track_caller]
    pub fn poisson_nll_loss(&self, target: &Tensor, options: &PoissonOptions) -> Tensor {
        let PoissonOptions { log_input, full, eps, reduction } = *options;
        let check = || alike(self, target).and_then(|()| not_negative("eps", eps));
        loss("poisson_nll_loss", &[self, target], check, |inputs| {
            let [x, t] = inputs else { unreachable!("two were passed") };
            let mut losses = if log_input { x.exp() - t * x } else { x - t * (x + eps).log() };
            if full {
                // t ln(t) - t + ln(2 pi t) / 2, where 1 stands in for what does not count.
                let counts = t.gt(1.0);
                let some = counts.where_(t, &t.ones_like());
                let stirling = &some * some.log() - &some + (some.log() * 0.5).offset(HALF_LOG_TAU);
                losses += counts.where_(&stirling, &t.filled_like(0.0));
            }
            reduction.of(&losses)
        })
    }

    /// Negative log likelihood of `target` under normal distributions with these means and the variances `variance`, of
    /// the same shape: (ln(v) + (x - t)^2 / v) / 2, as `torch.nn.functional.gaussian_nll_loss`.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`], [`crate::Error::DType`] for integers, and [`crate::Error::Value`] unless `eps` is above 0.
    #[track_caller]
    pub fn gaussian_nll_loss(&self, target: &Tensor, variance: &Tensor, options: &GaussianOptions) -> Tensor {
        let GaussianOptions { full, eps, reduction } = *options;
        let check = || alike(self, target).and_then(|()| alike(self, variance)).and_then(|()| positive("eps", eps));
        loss("gaussian_nll_loss", &[self, target, variance], check, |inputs| {
            let [x, t, v] = inputs else { unreachable!("three were passed") };
            // Bounded in its value alone.
            let v = v + (v.maximum(eps) - v).detach();
            let losses = (v.log() + (x - t).square() / &v) * 0.5;
            reduction.of(&if full { losses.offset(HALF_LOG_TAU) } else { losses })
        })
    }

    /// Mean of the cross-entropy of `target`, probabilities of the same shape and dtype, with the sigmoid of these
    /// logits, as `torch.nn.functional.binary_cross_entropy_with_logits`: a scalar. No logit overflows.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`].
    #[track_caller]
    pub fn binary_cross_entropy_with_logits(&self, target: &Tensor) -> Tensor {
        if let Some(error) = self.differing("binary_cross_entropy_with_logits", target) {
            return error;
        }
        // -t log(s) - (1 - t) log(1 - s) with s = 1 / (1 + e^-x): (1 - t) x + log(1 + e^-x).
        self.loss_formed_wide(target, |x, target| x.logistic_loss(target).mean_all())
    }

    /// A tensor with an error unless `target` has this shape; an error of either goes its own way.
    #[track_caller]
    fn differing(&self, op: &'static str, target: &Tensor) -> Option<Tensor> {
        if self.error().is_some() || target.error().is_some() || self.dims() == target.dims() {
            return None;
        }
        let what = format!("the shapes {} and {} of prediction and target differ", self.dims(), target.dims());
        Some(self.problem(op, Problem::Shape(what, "reshape one of them")))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn losses_have_their_defined_values() {
        let device = Device::cpu();
        let x = device.tensor(&[0.5f32, -3.0, 0.0, 90.0], &[4]);
        let t = device.tensor(&[0.0f32, 0.0, 1.0, 1.0], &[4]);
        let close = |loss: crate::Tensor, want: f64| {
            let got = loss.item().unwrap();
            assert!((got - want).abs() < 1e-12 * want, "{got} instead of {want}");
        };
        close(x.mse_loss(&t), (0.25 + 9.0 + 1.0 + 7921.0) / 4.0);
        close(x.l1_loss(&t), (0.5 + 3.0 + 1.0 + 89.0) / 4.0);
        close(x.huber_loss(&t, 2.0), (0.125 + 2.0 * 2.0 + 0.5 + 2.0 * 88.0) / 4.0);
        let logistic = |x: f64| x.exp().ln_1p();
        let want = (logistic(0.5) + logistic(-3.0) + 2f64.ln() + logistic(-90.0)) / 4.0;
        close(x.binary_cross_entropy_with_logits(&t), want);
    }

    #[test]
    fn a_loss_does_not_broadcast() {
        let device = Device::cpu();
        let loss = device.zeros(&[3, 1]).mse_loss(&device.zeros(&[3]));
        assert!(matches!(loss.error(), Some(Error::Shape { op: "mse_loss", .. })));
    }
}
