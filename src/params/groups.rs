//! Groups of parameters by name and shape.

use std::panic::Location;
use std::sync::Arc;

use super::ParamStore;
use crate::error::{Problem, Result};
use crate::shape::Shape;

impl ParamStore {
    /// Moves parameters to other groups, which optimizers may treat differently: `choose` gets the name and the shape of each
    /// parameter, and gives the name of its new group or `None`. Returns how many were moved.
    ///
    /// A parameter that is in a group of its own already, by [`Path::group`](super::Path::group), goes to a group below that one: `encoder.no_decay`.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # let params = ParamStore::new(&Device::cpu(), 1);
    /// # params.root().param("weight", &[3, 2], Init::Ones);
    /// # params.root().param("bias", &[3], Init::Zeros);
    /// let moved = params.regroup(|name, _| name.ends_with("bias").then(|| "no_decay".to_string()))?;
    /// assert_eq!(moved, 1);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Value`] if a parameter that it would move has been used: groups lie apart in memory.
    #[track_caller]
    pub fn regroup(&self, mut choose: impl FnMut(&str, &Shape) -> Option<String>) -> Result<usize> {
        let contents = &mut *self.lock();
        let mut moves = vec![];
        for (number, entry) in contents.entries.iter().enumerate() {
            let Some(name) = choose(&entry.name, &entry.shape) else { continue };
            let old = &contents.groups[entry.group];
            if **old == name || old.strip_suffix(name.as_str()).is_some_and(|above| above.ends_with('.')) {
                continue;
            }
            let name = if entry.group == 0 { name } else { format!("{old}.{name}") };
            if number < contents.placed {
                let what = format!("parameter `{}` is in use in group `{old}`", entry.name);
                let next = "choose groups before the first forward pass, step, load or read";
                return Err(Problem::Value(what, next).at("regroup", Location::caller()));
            }
            moves.push((number, name));
        }
        for (number, name) in &moves {
            let known = contents.groups.iter().position(|group| **group == **name);
            contents.entries[*number].group = known.unwrap_or_else(|| {
                Arc::make_mut(&mut contents.groups).push(name.as_str().into());
                contents.groups.len() - 1
            });
        }
        Ok(moves.len())
    }
}
