//! Adadelta (Zeiler 2012, "ADADELTA: an adaptive learning rate method"), as `torch.optim.Adadelta` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::ADADELTA;

/// Configuration of [`Adadelta`](crate::optim::Adadelta). The defaults are PyTorch's.
///
/// d <- g + wd theta; s <- rho s + (1-rho) d^2; u = sqrt(a + eps) / sqrt(s + eps) d; a <- rho a + (1-rho) u^2; theta <- theta - lr u
#[derive(Debug, Clone, PartialEq)]
pub struct AdadeltaConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of both means.
    pub rho: f64,
    /// Added below both roots.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
}

impl Default for AdadeltaConfig {
    fn default() -> Self {
        AdadeltaConfig { lr: 1.0, rho: 0.9, eps: 1e-6, weight_decay: 0.0 }
    }
}

impl Rule for AdadeltaConfig {
    common!("adadelta");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::square("square"), Moment::square("delta")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&ADADELTA]), &["square", "delta"])
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let rates = [now.lr, now.weight_decay, self.eps, 0.0];
        numbers([rates, [self.rho, 1.0 - self.rho, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, _, rho, rest, ..] = *update.numbers;
        update.each(|x, g, [square, delta]| {
            let d = g + decay * x;
            *square = rho * *square + rest * d * d;
            let u = (*delta + eps).sqrt() / (*square + eps).sqrt() * d;
            *delta = rho * *delta + rest * u * u;
            x - lr * u
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("rho", self.rho)?;
        check_number("eps", self.eps)
    }
}
