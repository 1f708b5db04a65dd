//! What became of a trial.

use std::collections::BTreeMap;

use super::point::Point;

/// Whether small or large values are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// Losses.
    #[default]
    Minimize,
    /// Accuracies.
    Maximize,
}

impl Goal {
    /// A value as a loss: the smaller the better.
    pub fn loss(self, value: f64) -> f64 {
        if self == Goal::Maximize { -value } else { value }
    }

    pub(super) fn name(self) -> &'static str {
        if self == Goal::Maximize { "maximize" } else { "minimize" }
    }
}

/// Where a trial stands.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It has begun; the process that runs it is alive.
    Running,
    /// It has a value.
    Complete,
    /// It was told to stop; its value is the last that it reported.
    Pruned,
    /// It gave an error, or a value that is not finite: what it said.
    Failed(String),
    /// The process that ran it ended before it did.
    Killed,
}

impl State {
    pub(super) fn name(&self) -> &'static str {
        match self {
            State::Running => "running",
            State::Complete => "complete",
            State::Pruned => "pruned",
            State::Failed(_) => "failed",
            State::Killed => "killed",
        }
    }
}

/// A trial of a study: its settings, and what became of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number in the study, from 0.
    pub number: u64,
    /// Which point of the study it is, from 0; a trial that repeats a killed one has its point.
    pub draw: u64,
    /// How often this point was tried before.
    pub attempt: u32,
    /// Its settings.
    pub point: Point,
    /// Where it stands.
    pub state: State,
    /// Its value, once it is complete or pruned.
    pub value: Option<f64>,
    /// What it reported on its way: steps and values.
    pub reports: Vec<(u64, f64)>,
    /// What it noted besides.
    pub notes: BTreeMap<String, f64>,
    /// Seconds that it took.
    pub seconds: Option<f64>,
    /// The process that runs it.
    pub(super) worker: Option<String>,
}

impl Record {
    /// Its value as a loss, if it is complete.
    pub fn loss(&self, goal: Goal) -> Option<f64> {
        self.value.filter(|_| self.state == State::Complete).map(|value| goal.loss(value))
    }

    /// Whether it ended without a value.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.state, State::Failed(_) | State::Killed)
    }
}
