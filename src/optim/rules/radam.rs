//! RAdam: Adam whose first steps, where the second moment is of too few gradients, are plain momentum (Liu et al. 2020, "On the
//! variance of the adaptive learning rate and beyond"), as `torch.optim.RAdam` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{RADAM, RADAM_CORRECTION};

/// Configuration of [`RAdam`](crate::optim::RAdam). The defaults are PyTorch's.
///
/// Adam's moments m and v; rho = 2 / (1-b2) - 1 - 2 t b2^t / (1-b2^t); where rho > 5, theta <- theta - lr (m / (1-b1^t)) r sqrt(1-b2^t)
/// / (sqrt(v) + eps), with r^2 = (rho-4) (rho-2) R / ((R-4) rho) and R = 2 / (1-b2) - 1; before that theta <- theta - lr m / (1-b1^t).
#[derive(Debug, Clone, PartialEq)]
pub struct RAdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Weight decay as AdamW's, else it is added to the gradient (L2).
    pub decoupled_weight_decay: bool,
}

impl Default for RAdamConfig {
    fn default() -> Self {
        RAdamConfig { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false }
    }
}

impl Rule for RAdamConfig {
    common!("radam");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m"), Moment::square("v")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&RADAM]), &["m", "v"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&RADAM_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        let ([h1, l1], [h2, l2]) = (logarithm(b1), logarithm(b2));
        let (penalty, decay) = match self.decoupled_weight_decay {
            true => (0.0, now.lr * now.weight_decay),
            false => (now.weight_decay, 0.0),
        };
        let d = 1.0 - b2;
        let rates = [now.lr, penalty, self.eps, decay];
        numbers([rates, [b1, 1.0 - b1, b2, d], [h1, l1, h2, l2], [d, 2.0 / d - 1.0, 0.0, 0.0]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, l2, eps, decay, b1, c1, b2, c2, ..] = *update.numbers;
        let t = update.count as f64;
        let (first, second) = (1.0 - b1.powf(t), 1.0 - b2.powf(t));
        let longest = 2.0 / (1.0 - b2) - 1.0;
        let rho = longest - 2.0 * t * b2.powf(t) / second;
        let above = (rho - 4.0) * (rho - 2.0) * longest;
        let rectified = (rho > 5.0).then(|| (above / ((longest - 4.0) * (longest - 2.0) * rho)).sqrt() * second.sqrt());
        update.each(|x, g, [m, v]| {
            let d = g + l2 * x;
            *m = b1 * *m + c1 * d;
            *v = b2 * *v + c2 * d * d;
            let step = rectified.map_or(1.0, |rectified| rectified / (v.sqrt() + eps));
            x - (decay * x + lr / first * *m * step)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        check_number("eps", self.eps)
    }
}
