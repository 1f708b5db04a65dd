//! What a model has below a place in its tree of names.

use super::{Param, Path};
use crate::state::State;

impl Path {
    /// Parameters below this path, in the order in which they were added; those that layers share once.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # let params = ParamStore::new(&Device::cpu(), 1);
    /// let encoder = params.root().child("encoder");
    /// Linear::new(&encoder.child("fc1"), 4, 3);
    /// Linear::new(&params.root().child("head"), 3, 2);
    /// let names: Vec<String> = encoder.parameters().iter().map(Param::name).collect();
    /// assert_eq!(names, ["encoder.fc1.weight", "encoder.fc1.bias"]);
    /// # use kiln::Param;
    /// ```
    pub fn parameters(&self) -> Vec<Param> {
        self.store.parameters().into_iter().filter(|param| self.has(&param.name())).collect()
    }

    /// States below this path by their full names, in the order in which they were added.
    pub fn states(&self) -> Vec<(String, State)> {
        let states = self.store.states().into_iter();
        states.filter(|(name, _)| self.has(name)).map(|(name, state)| (name.to_string(), state)).collect()
    }

    /// [`Param::freeze`] for all parameters below this path that there are now; returns how many.
    pub fn freeze(&self) -> usize {
        let below = self.parameters();
        below.iter().for_each(Param::freeze);
        below.len()
    }

    /// [`Param::unfreeze`] for all parameters below this path; returns how many.
    pub fn unfreeze(&self) -> usize {
        let below = self.parameters();
        below.iter().for_each(Param::unfreeze);
        below.len()
    }

    /// True for a name at or below this path: `a.bc` is not below `a.b`.
    fn has(&self, name: &str) -> bool {
        let rest = name.strip_prefix(&*self.prefix);
        self.prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}
