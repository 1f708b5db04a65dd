//! Initial values by name, for parts of a model and for all of it.

use std::panic::Location;

use super::ParamStore;
use crate::error::{Problem, Result};
use crate::init::Init;

impl ParamStore {
    /// Gives the parameters whose names fit `pattern` other initial values, and returns how many they are: those that they
    /// would have had, had they been made with `init`. A `*` in the pattern stands for any number of characters, dots
    /// too, so `*` fits every name, `conv*.weight` the weights of all layers whose path starts with `conv`.
    ///
    /// It may come before or after the first use. After it the values are overwritten; tensors recorded before keep theirs.
    /// Frozen parameters are overwritten too, and the moments that optimizers keep stay as they are.
    ///
    /// # Errors
    /// [`crate::Error::Value`] if no name fits, [`crate::Error::Shape`] or [`crate::Error::Value`] if `init` does not fit
    /// one of the parameters; nothing has changed then. Else what computing held tensors or writing met.
    #[track_caller]
    pub fn reinit(&self, pattern: &str, init: Init) -> Result<usize> {
        let count = self.reinit_with(|name, _| fits(pattern, name).then_some(init))?;
        if count == 0 {
            let what = format!("no parameter has a name like `{pattern}`");
            let next = "see ParamStore::names; `*` stands for any characters";
            return Err(Problem::Value(what, next).at("reinit", Location::caller()));
        }
        Ok(count)
    }

    /// [`ParamStore::reinit`] of a whole model by a function of each parameter's name and shape: it gives the new `Init`,
    /// or `None` for a parameter that stays as it is. Returns how many were given one.
    ///
    /// ```
    /// use kiln::prelude::*;
    /// let params = ParamStore::new(&Device::cpu(), 42);
    /// let layer = Linear::new(&params.root().child("fc"), 8, 4);
    /// let count = params.reinit_with(|name, shape| match shape.len() {
    ///     2.. => Some(Init::LECUN_NORMAL),
    ///     _ if name.ends_with(".bias") => Some(Init::Zeros),
    ///     _ => None,
    /// })?;
    /// assert_eq!(count, 2);
    /// assert_eq!(params.get("fc.bias").unwrap().values()?, [0.0; 4]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ParamStore::reinit`], but that no parameter gets one is none.
    #[track_caller]
    pub fn reinit_with(&self, choose: impl Fn(&str, &[usize]) -> Option<Init>) -> Result<usize> {
        let at = Location::caller();
        // The function may ask the store for something: it is called without the store's lock.
        let all: Vec<_> = self.lock().entries.iter().map(|entry| (entry.name.clone(), entry.shape)).collect();
        let mut chosen = vec![];
        for (number, (name, shape)) in all.iter().enumerate() {
            let Some(init) = choose(name, shape) else { continue };
            init.check(shape).map_err(|problem| of_parameter(name, problem).at("reinit", at))?;
            chosen.push((number, init));
        }
        self.redraw(&chosen)?;
        Ok(chosen.len())
    }
}

/// A problem, with the parameter's name before what is wrong.
fn of_parameter(name: &str, problem: Problem) -> Problem {
    match problem {
        Problem::Shape(what, next) => Problem::Shape(format!("`{name}`: {what}"), next),
        Problem::Value(what, next) => Problem::Value(format!("`{name}`: {what}"), next),
        other => other,
    }
}

/// True if `pattern`, in which `*` stands for any characters, describes all of `name`.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((first, others)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let (middle, last) = others.rsplit_once('*').unwrap_or(("", others));
    // The earliest place of each part leaves most for those behind it.
    for part in middle.split('*') {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_star_stands_for_any_characters() {
        for pattern in ["*", "**", "conv1.weight", "conv*", "*.weight", "c*1*t", "*conv1.weight*", "conv1*.weight"] {
            assert!(fits(pattern, "conv1.weight"), "{pattern}");
        }
        for pattern in ["", "conv1", "conv*.bias", "*.weigh", "weight*", "c*2*t", "conv1.*.weight", "conv1.weight*t"] {
            assert!(!fits(pattern, "conv1.weight"), "{pattern}");
        }
        // What stands before and behind the star may not share characters.
        assert!(!fits("aba*aba", "aba") && !fits("ab*ba", "aba") && fits("ab*ba", "abba"));
    }
}
