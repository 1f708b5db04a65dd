//! What is searched: parameters with their ranges, some of them there only where a choice has certain options.

use serde_json::{Value as Json, json};

use super::point::{Point, Value};
use super::range::Range;
use crate::error::{Error, Result};

/// A condition of a parameter: it is active where a choice has one of these options.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// The name of the choice.
    pub choice: String,
    /// Its options for which the condition holds.
    pub options: Vec<String>,
}

/// A parameter of a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// The values it may take.
    pub range: Range,
    /// What must hold for it to be active.
    pub conditions: Vec<Condition>,
}

/// Parameters and the values that they may take.
///
/// ```
/// use kiln::search::Space;
///
/// let space = Space::new()
///     .log_uniform("lr", 1e-4, 1e-1)
///     .integer("width", 16, 128)
///     .choice("optimizer", ["sgd", "adamw"])
///     .when("optimizer", ["sgd"], |space| space.uniform("momentum", 0.0, 0.99));
/// space.check()?;
/// assert_eq!(space.parameters().len(), 4);
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// What is wrong with it comes as an error from [`Space::check`], which every study asks first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Space {
    parameters: Vec<Parameter>,
}

impl Space {
    /// A space without parameters.
    pub fn new() -> Space {
        Space::default()
    }

    /// Adds a number from `low` to `high`, every part of equal width equally likely.
    pub fn uniform(self, name: impl Into<String>, low: f64, high: f64) -> Space {
        self.parameter(name, Range::Float { low, high, log: false })
    }

    /// Adds a number from `low` (above 0) to `high`, every factor equally likely: learning rates, decays.
    pub fn log_uniform(self, name: impl Into<String>, low: f64, high: f64) -> Space {
        self.parameter(name, Range::Float { low, high, log: true })
    }

    /// Adds an integer from `low` to `high`, both among them.
    pub fn integer(self, name: impl Into<String>, low: i64, high: i64) -> Space {
        self.parameter(name, Range::Integer { low, high, log: false })
    }

    /// Adds an integer from `low` (at least 1) to `high`, every factor about equally likely: widths, batch sizes.
    pub fn log_integer(self, name: impl Into<String>, low: i64, high: i64) -> Space {
        self.parameter(name, Range::Integer { low, high, log: true })
    }

    /// Adds one of several options.
    pub fn choice<S: Into<String>>(self, name: impl Into<String>, options: impl IntoIterator<Item = S>) -> Space {
        self.parameter(name, Range::Choice { options: options.into_iter().map(Into::into).collect() })
    }

    /// Adds the parameters that `add` adds; they are active only where the choice `choice`, which was added before, has
    /// one of `options`. May be nested.
    pub fn when<S: Into<String>>(
        mut self,
        choice: impl Into<String>,
        options: impl IntoIterator<Item = S>,
        add: impl FnOnce(Space) -> Space,
    ) -> Space {
        let condition = Condition { choice: choice.into(), options: options.into_iter().map(Into::into).collect() };
        for mut parameter in add(Space::new()).parameters {
            parameter.conditions.insert(0, condition.clone());
            self.parameters.push(parameter);
        }
        self
    }

    fn parameter(mut self, name: impl Into<String>, range: Range) -> Space {
        self.parameters.push(Parameter { name: name.into(), range, conditions: vec![] });
        self
    }

    /// The parameters, in the order in which they were added.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether a study can search this space.
    ///
    /// # Errors
    /// [`Error::Setting`] if there is no parameter; and with the name of the parameter if its bounds are not finite or in
    /// the wrong order, if it has no options or one twice, if another has its name, or if a condition speaks of a choice
    /// or an option that is not there before it.
    pub fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: &str, what: String, next| {
            Err(Error::Setting { name: name.into(), value: value.into(), what, next })
        };
        if self.parameters.is_empty() {
            return wrong("space", "empty", "there is nothing to search".into(), "add a parameter");
        }
        for (place, Parameter { name, range, conditions }) in self.parameters.iter().enumerate() {
            let before = &self.parameters[..place];
            let find = |name: &str| before.iter().find(|other| other.name == *name);
            range.check(name)?;
            if find(name).is_some() {
                return wrong(name, &range.to_string(), "another parameter has this name".into(), "rename one of them");
            }
            for Condition { choice, options } in conditions {
                let Some(Range::Choice { options: known }) = find(choice).map(|parameter| &parameter.range) else {
                    let what = format!("it depends on `{choice}`, which is no choice before it");
                    return wrong(name, &range.to_string(), what, "add the choice first");
                };
                if options.is_empty() || options.iter().any(|option| !known.contains(option)) {
                    let what = format!("it depends on {options:?} of `{choice}`, which has {known:?}");
                    return wrong(name, &range.to_string(), what, "name options that the choice has");
                }
            }
        }
        Ok(())
    }

    /// The point that lies at these parts of the way from the lower to the upper ends, one number a parameter; those of
    /// parameters that are not active there do not matter.
    pub fn at(&self, units: &[f64]) -> Point {
        let mut point = Point::default();
        for (parameter, &unit) in self.parameters.iter().zip(units) {
            if parameter.is_active(&point) {
                point.values.insert(parameter.name.clone(), parameter.range.at(unit));
            }
        }
        point
    }

    /// Where a point lies between the ends, one number a parameter; `None` where it is not active.
    pub fn units(&self, point: &Point) -> Vec<Option<f64>> {
        let unit = |parameter: &Parameter| Some(parameter.range.unit(point.get(&parameter.name)?));
        self.parameters.iter().map(unit).collect()
    }

    /// A point as a study's file has it; `Err` says what does not belong.
    pub(super) fn parse(&self, json: &Json) -> Result<Point, String> {
        let given = json.as_object().ok_or("its point is no object")?;
        let mut point = Point::default();
        for parameter in self.parameters.iter() {
            if parameter.is_active(&point) {
                let value = given.get(&parameter.name).and_then(|json| parameter.range.parse(json));
                let value = value.ok_or_else(|| format!("`{}` is not within {}", parameter.name, parameter.range))?;
                point.values.insert(parameter.name.clone(), value);
            }
        }
        if given.len() > point.values.len() {
            return Err("it has parameters that are not active there".into());
        }
        Ok(point)
    }

    pub(super) fn json(&self) -> Json {
        let condition = |Condition { choice, options }: &Condition| json!({ "choice": choice, "options": options });
        let parameter = |parameter: &Parameter| {
            let conditions: Vec<Json> = parameter.conditions.iter().map(condition).collect();
            json!({ "name": parameter.name, "range": parameter.range.json(), "when": conditions })
        };
        self.parameters.iter().map(parameter).collect()
    }
}

impl Parameter {
    /// Whether it is active at a point that has the parameters before it.
    pub(super) fn is_active(&self, point: &Point) -> bool {
        let holds = |condition: &Condition| match point.get(&condition.choice) {
            Some(Value::Choice(option)) => condition.options.contains(option),
            _ => false,
        };
        self.conditions.iter().all(holds)
    }
}
