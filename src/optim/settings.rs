//! What all optimizers are configured with, and which of it cannot be used.

use crate::error::Problem;

/// What one parameter group does differently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupSettings {
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// Weight decay, where it is not the optimizer's.
    pub weight_decay: Option<f64>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings { lr_scale: 1.0, weight_decay: None }
    }
}

/// What all optimizers are configured with.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Settings of groups, by name.
    pub groups: &'a [(String, GroupSettings)],
}

/// `Err` unless `value` is finite and not negative.
pub(super) fn check_number(name: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a finite number that is not negative"))
}

/// `Err` unless `value` is in [0, 1).
pub(super) fn check_share(name: &str, value: f64) -> Result<(), Problem> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a number from 0 to below 1"))
}

pub(super) fn check_settings(settings: &Settings<'_>) -> Result<(), Problem> {
    check_number("lr", settings.lr)?;
    check_number("weight_decay", settings.weight_decay)?;
    match settings.clip_norm {
        Some(norm) if !(norm.is_finite() && norm > 0.0) => {
            Err(Problem::Value(format!("clip_norm is {norm}"), "pass a positive number, or None"))
        }
        _ => Ok(()),
    }
}
