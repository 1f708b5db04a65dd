//! Averaged SGD (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"), as `torch.optim.ASGD` has it. The
//! average is the moment `average`, which [`Stepper::averaged`](crate::optim::Stepper::averaged) puts in the place of the weights.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Averaged, Moment, Now, Numbers, Rule, Update, elementwise, numbers, with_powers};
use crate::optim::settings::check_number;
use crate::shaders::optim::{ASGD, ASGD_CORRECTION};

/// Configuration of [`Asgd`](crate::optim::Asgd). The defaults are PyTorch's.
///
/// d <- g + wd theta; theta <- theta (1 - lambda eta) - eta d; a <- a + mu (theta - a), with eta = lr / (1 + lambda lr t)^alpha and mu =
/// 1 / max(1, t - t0) of the update before
#[derive(Debug, Clone, PartialEq)]
pub struct AsgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the weights, and of the rate.
    pub lambda: f64,
    /// Power by which the rate falls.
    pub alpha: f64,
    /// Updates before the average begins.
    pub t0: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
}

impl Default for AsgdConfig {
    fn default() -> Self {
        AsgdConfig { lr: 1e-2, lambda: 1e-4, alpha: 0.75, t0: 1e6, weight_decay: 0.0 }
    }
}

impl Rule for AsgdConfig {
    common!("asgd");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("average")]
    }

    fn kept(&self) -> &'static [&'static str] {
        &["eta", "mu"]
    }

    fn averaged(&self, _now: &Now) -> Option<Averaged> {
        Some(Averaged { moment: 0, share: 1.0 })
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&ASGD]), &["average"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(with_powers(Shader::of(&[&ASGD_CORRECTION])))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        numbers([[now.lr, now.weight_decay, self.lambda, self.alpha], [self.t0, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, lambda, alpha, t0, ..] = *update.numbers;
        let t = update.count as f64;
        let [eta, mu] = if update.count == 1 { [lr, 1.0] } else { [update.kept[0], update.kept[1]] };
        (update.kept[0], update.kept[1]) = (lr / (1.0 + lambda * lr * t).powf(alpha), 1.0 / (t - t0).max(1.0));
        update.each(|x, g, [average]| {
            let d = g + decay * x;
            let next = x * (1.0 - lambda * eta) - eta * d;
            *average = if mu == 1.0 { next } else { *average + mu * (next - *average) };
            next
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_number("lambda", self.lambda)?;
        check_number("alpha", self.alpha)?;
        check_number("t0", self.t0)
    }
}
