//! Lion (Chen et al. 2023, "Symbolic discovery of optimization algorithms").

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::check_share;
use crate::shaders::optim::LION;

/// Configuration of [`Lion`](crate::optim::Lion). The defaults are the paper's.
///
/// theta <- theta - lr ( sign(b1 m + (1-b1) g) + wd theta ); m <- b2 m + (1-b2) g
///
/// It keeps one moment. Usual rates are a tenth of AdamW's, with ten times its decay.
#[derive(Debug, Clone, PartialEq)]
pub struct LionConfig {
    /// Learning rate.
    pub lr: f64,
    /// Share of the moment in the direction, and its decay.
    pub betas: (f64, f64),
    /// Weight decay, scaled by the learning rate.
    pub weight_decay: f64,
}

impl Default for LionConfig {
    fn default() -> Self {
        LionConfig { lr: 1e-4, betas: (0.9, 0.99), weight_decay: 0.0 }
    }
}

impl Rule for LionConfig {
    common!("lion");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&LION]), &["m"])
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        numbers([[now.lr, now.weight_decay, 0.0, 0.0], [b1, 1.0 - b1, b2, 1.0 - b2], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, _, _, b1, c1, b2, c2, ..] = *update.numbers;
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        update.each(|x, g, [m]| {
            let direction = sign(b1 * *m + c1 * g);
            *m = b2 * *m + c2 * g;
            x - lr * (direction + decay * x)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)
    }
}
