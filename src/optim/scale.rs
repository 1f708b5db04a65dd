//! Dynamic loss scaling (Micikevicius et al. 2018, "Mixed precision training", with the schedule of
//! `torch.amp.GradScaler`), wholly on the device (`tally.rs`).
//!
//! The backward pass starts from the scale, which is read from memory; the factor that clips gradients also divides by it.
//! Where a scaled gradient is not finite the update is skipped and the scale is lowered.

use super::settings::check_number;
use crate::error::Problem;

/// How the factor of the loss follows the gradients. The defaults are those of `torch.amp.GradScaler`, which has no floor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LossScale {
    /// The factor at the start.
    pub initial: f64,
    /// What it is multiplied by after [`LossScale::interval`] good steps in a row.
    pub growth: f64,
    /// What it is multiplied by where a gradient is not finite; that step's update is skipped.
    pub backoff: f64,
    /// Good steps before it grows.
    pub interval: u32,
    /// Where it would sink below this the step is an error: it is not for their size that gradients are not finite.
    pub floor: f64,
}

impl Default for LossScale {
    fn default() -> Self {
        LossScale { initial: 65_536.0, growth: 2.0, backoff: 0.5, interval: 2000, floor: 1.0 / 16_384.0 }
    }
}

impl LossScale {
    pub(super) fn check(&self) -> Result<(), Problem> {
        check_number("the loss scale", self.initial)?;
        check_number("the growth of the loss scale", self.growth)?;
        check_number("the floor of the loss scale", self.floor)?;
        let sound = self.growth >= 1.0
            && self.backoff > 0.0
            && self.backoff < 1.0
            && self.interval > 0
            // The device keeps the scale in f32.
            && self.floor as f32 >= f32::MIN_POSITIVE
            && self.initial >= self.floor;
        if sound && self.initial as f32 <= f32::MAX {
            return Ok(());
        }
        let next = "a growth of at least 1, a backoff between 0 and 1, an interval, and a floor from 1.2e-38 to the initial scale";
        Err(Problem::Value(format!("{self:?}"), next))
    }
}
