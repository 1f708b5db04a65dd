//! The settings of one trial: a value for each parameter that is active.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::plot::page::rounded;

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a uniform or log-uniform parameter.
    Float(f64),
    /// Of an integer parameter.
    Integer(i64),
    /// Of a choice: one of its options.
    Choice(String),
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(option: &str) -> Value {
        Value::Choice(option.into())
    }
}

impl Value {
    pub(super) fn json(&self) -> Json {
        match self {
            Value::Float(number) => (*number).into(),
            Value::Integer(number) => (*number).into(),
            Value::Choice(option) => option.as_str().into(),
        }
    }
}

/// Up to six digits of a number; an option as it is.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Float(number) => f.write_str(&short(*number)),
            Value::Integer(number) => write!(f, "{number}"),
            Value::Choice(option) => f.write_str(option),
        }
    }
}

/// A number with up to six digits.
pub(super) fn short(number: f64) -> String {
    rounded(number, 6, 1e-4..1e7)
}

/// A point of a [`Space`](super::Space): the value of each parameter that is active there, by its name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Point {
    pub(super) values: BTreeMap<String, Value>,
}

impl Point {
    /// This point with a value for another parameter: `Point::default().with("lr", 0.01).with("optimizer", "adamw")`.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Point {
        self.values.insert(name.into(), value.into());
        self
    }

    /// The value of a parameter, if it is active here.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a uniform or log-uniform parameter.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no such parameter, if it is of another kind, or if it is not active at this point.
    pub fn float(&self, name: &str) -> Result<f64> {
        match self.get(name) {
            Some(Value::Float(number)) => Ok(*number),
            other => Err(other_kind(name, other)),
        }
    }

    /// The value of an integer parameter.
    ///
    /// # Errors
    /// As for [`Point::float`].
    pub fn integer(&self, name: &str) -> Result<i64> {
        match self.get(name) {
            Some(Value::Integer(number)) => Ok(*number),
            other => Err(other_kind(name, other)),
        }
    }

    /// The option of a choice.
    ///
    /// # Errors
    /// As for [`Point::float`].
    pub fn choice(&self, name: &str) -> Result<&str> {
        match self.get(name) {
            Some(Value::Choice(option)) => Ok(option),
            other => Err(other_kind(name, other)),
        }
    }

    pub(super) fn json(&self) -> Json {
        let entry = |(name, value): (&String, &Value)| (name.clone(), value.json());
        Json::Object(self.values.iter().map(entry).collect::<Map<_, _>>())
    }
}

fn other_kind(name: &str, value: Option<&Value>) -> Error {
    let (value, what, next) = match value {
        None => (
            "nothing".into(),
            "no parameter of this name is active at this point",
            "correct the name, or ask with `get` where it depends on another parameter",
        ),
        Some(value) => (
            value.to_string(),
            match value {
                Value::Float(_) => "the parameter is a float",
                Value::Integer(_) => "the parameter is an integer",
                Value::Choice(_) => "the parameter is a choice",
            },
            "take it with `float`, `integer` or `choice`, as it was added to the space",
        ),
    };
    Error::Setting { name: name.into(), value, what: what.into(), next }
}

/// `lr=0.01 width=32`, by name.
impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={value}", if place == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}
