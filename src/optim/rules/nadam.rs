//! NAdam: Adam with Nesterov's momentum (Dozat 2016, "Incorporating Nesterov momentum into Adam"), as `torch.optim.NAdam` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers, with_powers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{NADAM, NADAM_CORRECTION};

/// Configuration of [`NAdam`](crate::optim::NAdam). The defaults are PyTorch's.
///
/// Adam's moments m and v; mu_t = b1 (1 - 0.96^(t psi) / 2), M_t their product so far; theta <- theta - lr ( (1-mu_t) / (1-M_t) g +
/// mu_(t+1) / (1-M_(t+1)) m ) / ( sqrt(v / (1-b2^t)) + eps )
#[derive(Debug, Clone, PartialEq)]
pub struct NAdamConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// psi: how fast the momentum grows to the first beta.
    pub momentum_decay: f64,
    /// Weight decay as AdamW's, else it is added to the gradient (L2).
    pub decoupled_weight_decay: bool,
}

impl Default for NAdamConfig {
    fn default() -> Self {
        NAdamConfig {
            lr: 2e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
        }
    }
}

impl Rule for NAdamConfig {
    common!("nadam");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m"), Moment::square("v")]
    }

    fn kept(&self) -> &'static [&'static str] {
        &["mu_product"]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&NADAM]), &["m", "v"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(with_powers(Shader::of(&[&NADAM_CORRECTION])))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        let [high, low] = logarithm(b2);
        let (l2, decay) = match self.decoupled_weight_decay {
            true => (0.0, now.lr * now.weight_decay),
            false => (now.weight_decay, 0.0),
        };
        let constants = [high, low, self.momentum_decay * 0.96f64.ln(), 0.0];
        numbers([[now.lr, l2, self.eps, decay], [b1, 1.0 - b1, b2, 1.0 - b2], constants, [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, l2, eps, decay, b1, c1, b2, c2, ..] = *update.numbers;
        let t = update.count as f64;
        let mu = |t: f64| b1 * (1.0 - 0.5 * 0.96f64.powf(t * self.momentum_decay));
        let product = mu(t) * if update.count == 1 { 1.0 } else { update.kept[0] };
        update.kept[0] = product;
        let of_d = (1.0 - mu(t)) / (1.0 - product);
        let of_m = mu(t + 1.0) / (1.0 - product * mu(t + 1.0));
        let second = 1.0 - b2.powf(t);
        update.each(|x, g, [m, v]| {
            let d = g + l2 * x;
            *m = b1 * *m + c1 * d;
            *v = b2 * *v + c2 * d * d;
            x - (decay * x + lr * (of_d * d + of_m * *m) / ((*v / second).sqrt() + eps))
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        check_number("momentum_decay", self.momentum_decay)?;
        check_number("eps", self.eps)
    }
}
