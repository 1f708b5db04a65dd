//! Who says that a trial is not worth its time.

use super::record::{Goal, Record, State};

/// A rule by which a trial is stopped on its way.
pub trait Pruner: Send {
    /// Whether `trial`, which has just reported, should stop. `others` are the other trials of the study, in the order in
    /// which they began. A report that is not finite has stopped the trial before this is asked.
    fn prunes(&self, trial: &Record, others: &[&Record], goal: Goal) -> bool;
}

/// Stops a trial whose best report so far is worse than the median of what complete trials reported at the same step
/// (Golovin et al., "Google Vizier: a service for black-box optimization", KDD 2017).
#[derive(Debug, Clone, Copy)]
pub struct Median {
    /// Trials that must be complete before any is stopped.
    pub startup: usize,
    /// No trial is stopped before this step.
    pub warmup: u64,
}

impl Default for Median {
    fn default() -> Median {
        Median { startup: 5, warmup: 0 }
    }
}

impl Pruner for Median {
    fn prunes(&self, trial: &Record, others: &[&Record], goal: Goal) -> bool {
        let Some(&(step, _)) = trial.reports.last() else { return false };
        let complete = || others.iter().filter(|other| other.state == State::Complete);
        if step < self.warmup || complete().count() < self.startup {
            return false;
        }
        let at_step = |other: &&&Record| other.reports.iter().find(|report| report.0 == step).map(|report| report.1);
        let mut losses: Vec<f64> =
            complete().filter_map(|other| at_step(&other)).map(|value| goal.loss(value)).collect();
        losses.sort_by(f64::total_cmp);
        let (Some(&low), Some(&high)) = (losses.get(losses.len().saturating_sub(1) / 2), losses.get(losses.len() / 2))
        else {
            return false;
        };
        let best = trial.reports.iter().map(|report| goal.loss(report.1)).fold(f64::INFINITY, f64::min);
        best > 0.5 * low + 0.5 * high
    }
}

/// Stops a trial at a rung (the steps `first`, `first` η, `first` η² and so on) unless its report there is among the best
/// 1/η of those that got there before it (asynchronous successive halving: Li et al., "A system for massively parallel
/// hyperparameter tuning", MLSys 2020, in its form that stops trials). Until η got there only the best goes on.
///
/// Steps count from 1, and are what training costs: epochs, batches.
#[derive(Debug, Clone, Copy)]
pub struct SuccessiveHalving {
    /// The first rung.
    pub first: u64,
    /// η: how many times longer those train that go on. At least 2.
    pub reduction: u64,
}

impl Default for SuccessiveHalving {
    fn default() -> SuccessiveHalving {
        SuccessiveHalving { first: 1, reduction: 4 }
    }
}

impl Pruner for SuccessiveHalving {
    fn prunes(&self, trial: &Record, others: &[&Record], goal: Goal) -> bool {
        let Some((&(step, value), before)) = trial.reports.split_last() else { return false };
        let reached = before.iter().map(|report| report.0).max();
        let factor = self.reduction.max(2);
        // The rungs that this report is the first to reach; a long step may pass several.
        let rungs = std::iter::successors(Some(self.first.max(1)), |rung| rung.checked_mul(factor));
        let mut new =
            rungs.take_while(|&rung| rung <= step).filter(|&rung| reached.is_none_or(|reached| reached < rung));
        new.any(|rung| {
            let there = |other: &&Record| other.reports.iter().find(|report| report.0 >= rung).map(|report| report.1);
            let mut losses: Vec<f64> = others.iter().filter_map(there).map(|value| goal.loss(value)).collect();
            losses.push(goal.loss(value));
            losses.sort_by(f64::total_cmp);
            let promoted = (losses.len() as u64 / factor).max(1) as usize;
            goal.loss(value) > losses[promoted - 1]
        })
    }
}
