//! The values that one parameter may take, as numbers from 0 to 1 and back.

use serde_json::{Value as Json, json};

use super::point::{Value, short};
use crate::error::{Error, Result};

/// Integers up to this size are exact as f64.
const WHOLE: i64 = 1 << 53;

/// The values that a parameter may take.
#[derive(Debug, Clone, PartialEq)]
pub enum Range {
    /// Numbers from `low` to `high`; in their logarithm, if `log`.
    Float {
        /// The least.
        low: f64,
        /// The greatest.
        high: f64,
        /// Whether 0.01 to 0.1 is as wide as 0.1 to 1.
        log: bool,
    },
    /// Integers from `low` to `high`, both among them; in their logarithm, if `log`.
    Integer {
        /// The least.
        low: i64,
        /// The greatest.
        high: i64,
        /// Whether 1 to 10 is as wide as 10 to 100.
        log: bool,
    },
    /// Options that have no order.
    Choice {
        /// The options.
        options: Vec<String>,
    },
}

impl Range {
    /// Number of values, if they can be counted.
    pub fn count(&self) -> Option<u64> {
        match self {
            Range::Float { .. } => None,
            Range::Integer { low, high, .. } => Some(high.abs_diff(*low).saturating_add(1)),
            Range::Choice { options } => Some(options.len() as u64),
        }
    }

    /// The value at `unit` of the way from the lower end (0) to the upper one (1); what lies outside counts as the end.
    /// Each integer or option takes up a part of the way.
    pub fn at(&self, unit: f64) -> Value {
        let unit = if unit.is_nan() { 0.5 } else { unit.clamp(0.0, 1.0) };
        let number = || {
            let [low, high] = self.ends();
            let number = low + (high - low) * unit;
            if self.is_log() { number.exp() } else { number }
        };
        match self {
            // The ends are met exactly, in spite of logarithms.
            Range::Float { low, .. } if unit == 0.0 => Value::Float(*low),
            Range::Float { high, .. } if unit == 1.0 => Value::Float(*high),
            Range::Float { low, high, .. } => Value::Float(number().max(*low).min(*high)),
            Range::Integer { low, high, .. } => Value::Integer((number().round() as i64).max(*low).min(*high)),
            Range::Choice { options } => {
                let place = (unit * options.len() as f64) as usize;
                Value::Choice(options.get(place).or(options.last()).cloned().unwrap_or_default())
            }
        }
    }

    /// Where a value lies between the ends: what [`Range::at`] takes. A value of another kind lies in the middle.
    pub fn unit(&self, value: &Value) -> f64 {
        match (self, value) {
            (Range::Float { .. }, Value::Float(number)) => self.place(*number),
            (Range::Integer { .. }, Value::Integer(number)) => self.place(*number as f64),
            (Range::Choice { options }, Value::Choice(option)) => {
                let place = options.iter().position(|other| other == option).unwrap_or(0);
                (place as f64 + 0.5) / options.len().max(1) as f64
            }
            _ => 0.5,
        }
    }

    /// The part of the way that the integer at `unit` takes up; `None` where values cannot be counted, or have no order.
    pub(super) fn cell(&self, unit: f64) -> Option<[f64; 2]> {
        let (Range::Integer { .. }, Value::Integer(number)) = (self, self.at(unit)) else { return None };
        Some([-0.5, 0.5].map(|half| self.place(number as f64 + half)))
    }

    /// Both ends, as the way is measured.
    fn ends(&self) -> [f64; 2] {
        let ends = match self {
            Range::Float { low, high, .. } => [*low, *high],
            Range::Integer { low, high, .. } => [*low as f64 - 0.5, *high as f64 + 0.5],
            Range::Choice { .. } => [0.0, 1.0],
        };
        if self.is_log() { ends.map(f64::ln) } else { ends }
    }

    fn place(&self, number: f64) -> f64 {
        let [low, high] = self.ends();
        let number = if self.is_log() { number.ln() } else { number };
        if high > low { ((number - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 }
    }

    pub(super) fn is_log(&self) -> bool {
        matches!(self, Range::Float { log: true, .. } | Range::Integer { log: true, .. })
    }

    pub(super) fn is_choice(&self) -> bool {
        matches!(self, Range::Choice { .. })
    }

    pub(super) fn check(&self, name: &str) -> Result<()> {
        let wrong = |value: String, what: &str, next: &'static str| {
            Err(Error::Setting { name: name.into(), value, what: what.into(), next })
        };
        match self {
            &Range::Float { low, high, log } => {
                let bounds = format!("{low}..{high}");
                if !low.is_finite() || !high.is_finite() || !(high - low).is_finite() {
                    return wrong(bounds, "a bound or the distance between them is not finite", "pass finite bounds");
                }
                if low > high {
                    return wrong(bounds, "the lower bound is above the upper one", "swap the bounds");
                }
                if log && low <= 0.0 {
                    return wrong(bounds, "a logarithm of its lower bound does not exist", "pass one above 0");
                }
            }
            &Range::Integer { low, high, log } => {
                let bounds = format!("{low}..{high}");
                if low > high {
                    return wrong(bounds, "the lower bound is above the upper one", "swap the bounds");
                }
                if low < -WHOLE || high > WHOLE {
                    return wrong(bounds, "a bound is beyond 2^53", "pass bounds that an f64 holds exactly");
                }
                if log && low < 1 {
                    return wrong(bounds, "a logarithm of its lower bound does not exist", "pass one of at least 1");
                }
            }
            Range::Choice { options } => {
                if options.is_empty() {
                    return wrong("[]".into(), "a choice without options", "pass at least one");
                }
                if let Some(twice) = (1..options.len()).find(|&place| options[..place].contains(&options[place])) {
                    return wrong(options[twice].clone(), "the option is there twice", "pass each once");
                }
            }
        }
        Ok(())
    }

    /// A value as a study's file has it, if it is one of this range.
    pub(super) fn parse(&self, json: &Json) -> Option<Value> {
        match self {
            Range::Float { low, high, .. } => {
                json.as_f64().filter(|number| (*low..=*high).contains(number)).map(Value::Float)
            }
            Range::Integer { low, high, .. } => {
                json.as_i64().filter(|number| (*low..=*high).contains(number)).map(Value::Integer)
            }
            Range::Choice { options } => {
                let option = json.as_str()?;
                options.iter().any(|other| other == option).then(|| Value::Choice(option.into()))
            }
        }
    }

    pub(super) fn json(&self) -> Json {
        match self {
            Range::Float { low, high, log } => json!({ "kind": "float", "low": low, "high": high, "log": log }),
            Range::Integer { low, high, log } => json!({ "kind": "integer", "low": low, "high": high, "log": log }),
            Range::Choice { options } => json!({ "kind": "choice", "options": options }),
        }
    }
}

/// `0.001..0.1 (log)`, `[sgd, adamw]`.
impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Range::Float { low, high, .. } => write!(f, "{}..{}", short(*low), short(*high))?,
            Range::Integer { low, high, .. } => write!(f, "{low}..={high}")?,
            Range::Choice { options } => write!(f, "[{}]", options.join(", "))?,
        }
        f.write_str(if self.is_log() { " (log)" } else { "" })
    }
}
