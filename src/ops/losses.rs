//! Losses composed of other ops. All take the mean over all elements and give a scalar,
//! formed in f32 for f16.

use crate::error::Problem;
use crate::tensor::Tensor;

impl Tensor {
    /// Mean of the squared differences from `target`, as `torch.nn.functional.mse_loss`: a scalar.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape: a loss that broadcasts is most often a
    /// mistake.
    #[track_caller]
    pub fn mse_loss(&self, target: &Tensor) -> Tensor {
        match self.differing("mse_loss", target) {
            Some(error) => error,
            None => self.loss_formed_wide(target, |x, target| (x - target).square().mean_all()),
        }
    }

    /// Mean of the absolute differences from `target`, as `torch.nn.functional.l1_loss`: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`].
    #[track_caller]
    pub fn l1_loss(&self, target: &Tensor) -> Tensor {
        match self.differing("l1_loss", target) {
            Some(error) => error,
            None => self.loss_formed_wide(target, |x, target| (x - target).abs().mean_all()),
        }
    }

    /// Mean of d^2 / 2 for differences |d| up to `delta` and delta (|d| - delta / 2) beyond (Huber 1964), as
    /// `torch.nn.functional.huber_loss`: a scalar.
    ///
    /// # Errors
    /// As [`Tensor::mse_loss`], and [`crate::Error::Value`] unless `delta` is positive.
    #[track_caller]
    pub fn huber_loss(&self, target: &Tensor, delta: f64) -> Tensor {
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
            (&near * (difference - near.scale(0.5))).mean_all()
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
