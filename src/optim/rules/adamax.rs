//! Adamax: Adam with the largest gradient, decayed, in place of the mean of squares (Kingma and Ba 2015, section 7.1), as
//! `torch.optim.Adamax` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{ADAM_CORRECTION, ADAMAX};

/// Configuration of [`Adamax`](crate::optim::Adamax). The defaults are PyTorch's.
///
/// d <- g + wd theta; m <- b1 m + (1-b1) d; u <- max(b2 u, |d| + eps); theta <- theta - lr / (1-b1^t) m / u
#[derive(Debug, Clone, PartialEq)]
pub struct AdamaxConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the mean and of the largest gradient.
    pub betas: (f64, f64),
    /// Added to magnitudes.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
}

impl Default for AdamaxConfig {
    fn default() -> Self {
        AdamaxConfig { lr: 2e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Rule for AdamaxConfig {
    common!("adamax");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m"), Moment::square("u")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&ADAMAX]), &["m", "u"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&ADAM_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        let [high, low] = logarithm(b1);
        let rates = [now.lr, now.weight_decay, self.eps, 0.0];
        numbers([rates, [b1, 1.0 - b1, b2, 0.0], [high, low, high, low], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, _, b1, c1, b2, ..] = *update.numbers;
        let rate = lr / (1.0 - b1.powf(update.count as f64));
        update.each(|x, g, [m, u]| {
            let d = g + decay * x;
            *m = b1 * *m + c1 * d;
            *u = (b2 * *u).max(d.abs() + eps);
            x - rate * *m / *u
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        check_number("eps", self.eps)
    }
}
