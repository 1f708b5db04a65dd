//! Choices that a trainer is given.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// How often something is done.
///
/// As a text a number of steps, or a time in seconds, minutes or hours:
///
/// ```
/// use kiln::train::Every;
///
/// assert_eq!("100".parse::<Every>()?, Every::Steps(100));
/// assert_eq!("5m".parse::<Every>()?, Every::Time(std::time::Duration::from_secs(300)));
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After so many steps.
    Steps(u64),
    /// After so many epochs.
    Epochs(u64),
    /// At the first step after so much time. Two runs do not do it at the same steps.
    Time(Duration),
}

/// # Errors
/// [`Error::Setting`] for a text that is neither, or 0 of either.
impl FromStr for Every {
    type Err = Error;

    fn from_str(text: &str) -> Result<Every> {
        let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
        let time = |unit: f64| Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok().map(Every::Time);
        let every = match unit {
            "" => number.parse().ok().map(Every::Steps),
            "s" => time(1.0),
            "m" => time(60.0),
            "h" => time(3600.0),
            _ => None,
        };
        every.filter(|every| !every.is_never()).ok_or_else(|| Error::Setting {
            name: "how often".into(),
            value: text.into(),
            what: "it is neither a number of steps (100) nor a time (30s, 5m, 2h), above 0".into(),
            next: "pass one of the two",
        })
    }
}

impl Every {
    /// True if nothing could ever be done so often.
    pub(super) fn is_never(self) -> bool {
        matches!(self, Every::Steps(0) | Every::Epochs(0)) || self == Every::Time(Duration::ZERO)
    }

    /// True after a step, with so much time since it was done.
    pub(super) fn is_due_at_step(self, step: u64, since: Duration) -> bool {
        match self {
            Every::Steps(n) => step.is_multiple_of(n),
            Every::Time(time) => since >= time,
            Every::Epochs(_) => false,
        }
    }

    /// True after so many whole epochs.
    pub(super) fn is_due_at_epoch(self, epochs: u64) -> bool {
        matches!(self, Every::Epochs(n) if epochs.is_multiple_of(n))
    }
}

/// What to do about a step whose loss or gradient is not finite. Its update is never done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NotFinite {
    /// End the fit with the error.
    #[default]
    Stop,
    /// Go on without it, up to so many times in a run; one more ends the fit. The means of that epoch are then not finite
    /// either. The device finds such a step, and the host learns of it some steps later, so a schedule may be a step ahead
    /// until then.
    Skip(u64),
    /// Take models, optimizers and averages back to the last checkpoint that this run has saved, and go on with the data
    /// that come next, up to so many times; one more ends the fit. Counts of epochs and steps go on.
    GoBack(u64),
}

/// The name of the model that a trainer is made with, and of the optimizer that has no other.
pub(super) const MODEL: &str = "model";
