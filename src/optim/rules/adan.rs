//! Adan (Xie et al. 2022, "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models").

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{ADAN, ADAN_CORRECTION};

/// Configuration of [`Adan`](crate::optim::Adan). The betas are those of the authors' program, 1 less those of the paper.
///
/// e = g - previous g; m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) e; n <- b3 n + (1-b3) (g + b2 e)^2; theta <- ( theta - lr ( m/(1-b1^t) +
/// b2 v/(1-b2^t) ) / ( sqrt(n/(1-b3^t)) + eps ) ) / (1 + lr wd)
#[derive(Debug, Clone, PartialEq)]
pub struct AdanConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the gradients, of their differences, and of the squares.
    pub betas: (f64, f64, f64),
    /// Added to the root.
    pub eps: f64,
    /// Weight decay, scaled by the learning rate.
    pub weight_decay: f64,
}

impl Default for AdanConfig {
    fn default() -> Self {
        AdanConfig { lr: 1e-3, betas: (0.98, 0.92, 0.99), eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Rule for AdanConfig {
    common!("adan");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m"), Moment::new("v"), Moment::square("n"), Moment::new("previous")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&ADAN]), &["m", "v", "n", "previous"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&ADAN_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, (_, b2, b3)) = (now.momentum.unwrap_or(self.betas.0), self.betas);
        let ([h1, l1], [h2, l2], [h3, l3]) = (logarithm(b1), logarithm(b2), logarithm(b3));
        let rates = [now.lr, self.eps, 1.0 / (1.0 + now.lr * now.weight_decay), 0.0];
        numbers([rates, [b1, 1.0 - b1, b2, 1.0 - b2], [b3, 1.0 - b3, h3, l3], [h1, l1, h2, l2]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, eps, shrink, _, b1, c1, b2, c2, b3, c3, ..] = *update.numbers;
        let t = update.count as f64;
        let [first, second, third] = [b1, b2, b3].map(|b| 1.0 - b.powf(t));
        let is_first = update.count == 1;
        update.each(|x, g, [m, v, n, previous]| {
            let e = if is_first { 0.0 } else { g - *previous };
            *m = b1 * *m + c1 * g;
            *v = b2 * *v + c2 * e;
            *n = b3 * *n + c3 * (g + b2 * e).powi(2);
            *previous = g;
            (x - lr * (*m / first + b2 * *v / second) / ((*n / third).sqrt() + eps)) * shrink
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        check_share("the third beta", self.betas.2)?;
        check_number("eps", self.eps)
    }
}
