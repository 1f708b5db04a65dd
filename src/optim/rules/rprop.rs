//! Rprop: resilient back-propagation (Riedmiller and Braun 1993, "A direct adaptive method for faster backpropagation learning"), as
//! `torch.optim.Rprop` has it. It is for gradients of the whole data: the noise of batches makes every step small.

use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::check_number;
use crate::shaders::optim::{FIRST_CORRECTION, RPROP};

/// Configuration of [`Rprop`](crate::optim::Rprop). The defaults are PyTorch's.
///
/// The step of a scalar is multiplied by the second of `etas` where its gradient keeps its sign, by the first where it changes, and kept
/// within `step_sizes`; theta <- theta - sign(g) step, and nothing where the sign has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct RpropConfig {
    /// The step of each scalar to begin with: what a schedule gives after the first update of a parameter changes nothing.
    pub lr: f64,
    /// Factors by which a step shrinks and grows.
    pub etas: (f64, f64),
    /// The least and the largest step.
    pub step_sizes: (f64, f64),
}

impl Default for RpropConfig {
    fn default() -> Self {
        RpropConfig { lr: 1e-2, etas: (0.5, 1.2), step_sizes: (1e-6, 50.0) }
    }
}

impl Rule for RpropConfig {
    fn name(&self) -> &'static str {
        "rprop"
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("previous"), Moment::square("step_size")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&RPROP]), &["previous", "step_size"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&FIRST_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let ((shrink, grow), (least, largest)) = (self.etas, self.step_sizes);
        numbers([[now.lr, shrink, grow, 0.0], [least, largest, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, shrink, grow, _, least, largest, ..] = *update.numbers;
        let first = update.count == 1;
        let sign = |x: f64| if x == 0.0 { 0.0 } else { x.signum() };
        update.each(|x, g, [previous, size]| {
            let agreement = sign(g) * sign(*previous);
            let scale = if agreement > 0.0 { grow } else { 1.0 };
            let scale = if agreement < 0.0 { shrink } else { scale };
            *size = (if first { lr } else { *size } * scale).clamp(least, largest);
            *previous = if agreement < 0.0 { 0.0 } else { g };
            x - sign(*previous) * *size
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_number("the least step", self.step_sizes.0)?;
        check_number("the largest step", self.step_sizes.1)?;
        let (shrink, grow) = self.etas;
        let sound = shrink > 0.0 && shrink < 1.0 && grow > 1.0 && grow.is_finite();
        if sound && self.step_sizes.0 <= self.step_sizes.1 {
            return Ok(());
        }
        let next = "shrink by a factor in (0, 1), grow by one above 1, and pass the least step first";
        Err(Problem::Value(format!("etas {:?}, step sizes {:?}", self.etas, self.step_sizes), next))
    }
}
