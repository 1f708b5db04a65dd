//! The rules of an optimizer, with the groups that each has and what gives its rates.

use std::sync::Arc;

use super::rule::{Now, Rule};
use super::settings::{GroupSettings, check_number, check_share};
use crate::error::Problem;
use crate::schedule::Schedule;

/// A rule of a step, and what steps change of it.
pub(super) struct Ruled {
    pub rule: Arc<dyn Rule>,
    /// Names of its groups; `None` for all that no other rule has.
    pub groups: Option<Vec<String>>,
    /// The learning rate, where no schedule gives it.
    pub lr: f64,
    pub schedule: Option<Schedule>,
    pub momentum: Option<Schedule>,
}

impl Ruled {
    pub fn new(rule: Arc<dyn Rule>, groups: Option<Vec<String>>) -> Ruled {
        Ruled { lr: rule.lr(), rule, groups, schedule: None, momentum: None }
    }

    /// The rate of a step after so many.
    pub fn lr(&self, steps: u64) -> f64 {
        self.schedule.as_ref().map_or(self.lr, |schedule| schedule.at(steps))
    }

    /// What its numbers depend on in a step of a group after so many.
    pub fn now(&self, settings: &GroupSettings, steps: u64) -> Result<Now, Problem> {
        let lr = self.lr(steps) * settings.lr_scale;
        check_number("the learning rate of this step", lr)?;
        let momentum = self.momentum.as_ref().map(|schedule| schedule.at(steps));
        check_share("the momentum of this step", momentum.unwrap_or(0.0))?;
        Ok(Now { lr, weight_decay: settings.weight_decay.unwrap_or(self.rule.weight_decay()), momentum })
    }

    /// How early it takes this group: `None` if it does not.
    pub fn takes(&self, group: &str) -> Option<usize> {
        let is_below = |own: &&String| {
            group.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        match &self.groups {
            Some(groups) => groups.iter().filter(is_below).map(|own| 1 + own.len()).max(),
            None => Some(0),
        }
    }
}
