//! Parameters: named ranges of a few arenas that live on the device.
//!
//! A [`ParamStore`] keeps one arena of values and one of gradients for each parameter group; optimizers add one for each
//! of their states. A parameter is an aligned range at the same offset in each, so that an update is one dispatch over
//! the whole arena. Parameters are recorded as they are added; arenas are made at the first use. Parameters added after
//! that open another arena (a chunk of their group), and so does what passes the adapter's binding limit.
//!
//! A [`Param`] is a name for a range; [`Param::tensor`] is its present value as a leaf of the graph: one node for each
//! version of the store, a new one after each update. What was recorded before an update keeps the values from before.

mod below;
mod copy;
mod exchange;
mod groups;
mod lsuv;
mod overwrite;
mod reinit;
mod store;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use crate::error::{Problem, Result};
use crate::host::Element;
use crate::init::Init;
use crate::rng::Draws;
use crate::shape::Shape;
use crate::state::State;
use crate::tensor::{Tensor, records_gradients};

pub use exchange::Kept;
pub use lsuv::{LsuvConfig, lsuv};
pub(crate) use store::{BLOCK, Chunk, Placed, stream};
pub use store::{DEFAULT_GROUP, ParamStore};

/// A place in the tree of names, and the group of what is added there. Cloning copies the handle.
#[derive(Clone)]
pub struct Path {
    store: ParamStore,
    prefix: Arc<str>,
    group: usize,
}

impl Path {
    /// The path `name` below this one: `root.child("conv1")`, or `&root / "conv1"`.
    #[must_use]
    pub fn child(&self, name: impl fmt::Display) -> Path {
        Path { prefix: self.join(name).into(), ..self.clone() }
    }

    /// The same path for parameters of group `name`, which optimizers may treat differently.
    #[must_use]
    pub fn group(&self, name: &str) -> Path {
        let mut contents = self.store.lock();
        let known = contents.groups.iter().position(|group| &**group == name);
        let group = known.unwrap_or_else(|| {
            Arc::make_mut(&mut contents.groups).push(name.into());
            contents.groups.len() - 1
        });
        drop(contents);
        Path { group, ..self.clone() }
    }

    /// Adds a parameter. Names are unique in a store.
    ///
    /// # Errors
    /// The tensor of the result carries [`crate::Error::Value`] if the name is taken, [`crate::Error::Shape`] if the shape is empty.
    #[track_caller]
    pub fn param(&self, name: impl fmt::Display, shape: &[usize], init: Init) -> Param {
        self.store.add(self.join(name), shape, self.group, init, None)
    }

    /// [`Path::param`], but row `zeros`, if there is one, starts as zeros.
    #[track_caller]
    pub(crate) fn param_but_for(&self, name: &str, shape: &[usize], init: Init, zeros: Option<usize>) -> Param {
        self.store.add(self.join(name), shape, self.group, init, zeros)
    }

    /// Adds a state, f32, that steps of this store carry out and checkpoints keep (`running_mean` and the like). Names
    /// are unique among parameters and states.
    ///
    /// # Errors
    /// The value of the result carries [`crate::Error::Value`] if the name is taken.
    #[track_caller]
    pub fn state(&self, name: impl fmt::Display, initial: &Tensor) -> State {
        self.store.add_state(self.join(name), initial)
    }

    /// The store.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// The counter of random draws, for layers that draw.
    pub fn draws(&self) -> &Draws {
        self.store.draws()
    }

    fn join(&self, name: impl fmt::Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefix)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Path({})", self.prefix)
    }
}

impl std::ops::Div<&str> for &Path {
    type Output = Path;
    fn div(self, name: &str) -> Path {
        self.child(name)
    }
}

impl std::ops::Div<&str> for Path {
    type Output = Path;
    fn div(self, name: &str) -> Path {
        self.child(name)
    }
}

/// A parameter of a store. Cloning copies the handle: layers that hold clones share (tie) the parameter.
///
/// If it could not be added, its tensor carries the error.
#[derive(Clone)]
pub struct Param {
    store: ParamStore,
    entry: Result<usize>,
}

impl Param {
    /// Its present value, as a leaf of the graph. Gradients flow to it unless it is frozen or this is called within
    /// [`crate::no_grad`].
    ///
    /// # Errors
    /// The result carries the error that adding the parameter met, [`crate::Error::Limit`] if it is larger than the adapter
    /// allows, or [`crate::Error::OutOfMemory`].
    #[track_caller]
    pub fn tensor(&self) -> Tensor {
        let at = Location::caller();
        let number = match &self.entry {
            Ok(number) => *number,
            Err(error) => return Tensor::invalid(self.store.device(), error.clone(), at),
        };
        // The version that the leaf is of must not change before an update can see the leaf.
        let _gate = self.store.state().enter();
        let contents = &mut *self.store.lock();
        match self.store.place(contents) {
            Ok(()) => Tensor::from_node(self.store.leaf(contents, number, !records_gradients(), at)),
            Err(error) => Tensor::invalid(self.store.device(), error, at),
        }
    }

    /// Its name, as in checkpoints; empty if it could not be added.
    pub fn name(&self) -> String {
        let name = |number: &usize| self.store.lock().entries[*number].name.to_string();
        self.entry.as_ref().map(name).unwrap_or_default()
    }

    /// Its number, if it is one of `store`.
    pub(crate) fn number_in(&self, store: &ParamStore) -> Result<Option<usize>> {
        let number = self.entry.clone()?;
        Ok(self.store.same(store).then_some(number))
    }

    /// Its axis lengths.
    ///
    /// # Errors
    /// The error that adding it met.
    pub fn shape(&self) -> Result<Shape> {
        self.entry.clone().map(|number| self.store.lock().entries[number].shape)
    }

    /// Its present values, row-major. Waits for the device.
    ///
    /// # Errors
    /// As [`Tensor::to_vec`].
    #[track_caller]
    pub fn values(&self) -> Result<Vec<f64>> {
        Ok(self.tensor().to_array()?.data)
    }

    /// Overwrites it with numbers of any type, which f32 rounds once. Tensors recorded before keep the values from before.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] unless there is one value an element; else what computing held tensors or writing met.
    #[track_caller]
    pub fn set<T: Element>(&self, values: &[T]) -> Result<()> {
        let number = self.entry.clone()?;
        let shape = self.store.lock().entries[number].shape;
        if values.len() != shape.elements() {
            let what = format!("{} values for parameter `{}` of shape {shape}", values.len(), self.name());
            return Err(Problem::Shape(what, "pass one value an element").at("set", Location::caller()));
        }
        let values: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
        self.store.overwrite([Ok((number, values))])
    }

    /// Overwrites it with a tensor's value, cast to f32, and waits for the device. Tensors recorded before keep the values
    /// from before. (In a step the optimizer does this; from step to step a [`State`] carries a value without waiting.)
    ///
    /// # Errors
    /// The error that `value` carries, or [`crate::Error::Shape`] unless it has this parameter's shape; else as
    /// [`Param::set`].
    #[track_caller]
    pub fn assign(&self, value: &Tensor) -> Result<()> {
        let (own, array) = (self.shape()?, value.to_array()?);
        if array.shape != own {
            let what = format!("a tensor of shape {} for parameter `{}` of shape {own}", array.shape, self.name());
            return Err(Problem::Shape(what, "pass one of the same shape").at("assign", Location::caller()));
        }
        self.set(&array.data)
    }

    /// Gives it other initial values: those that it would have had, had it been made with `init`. Where it has been used
    /// already they overwrite it, and tensors recorded before keep the values from before. The moments that optimizers
    /// keep for it stay as they are.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] or [`crate::Error::Value`] if `init` does not fit; nothing has changed then. Else as
    /// [`Param::set`].
    #[track_caller]
    pub fn reinit(&self, init: Init) -> Result<()> {
        let number = self.entry.clone()?;
        let shape = self.store.lock().entries[number].shape;
        init.check(&shape).map_err(|problem| problem.at("reinit", Location::caller()))?;
        self.store.redraw(&[(number, init)])
    }

    /// Keeps it as it is: no gradient flows to it and no step changes it, from the next recorded tensor on.
    pub fn freeze(&self) {
        self.set_frozen(true);
    }

    /// Ends [`Param::freeze`].
    pub fn unfreeze(&self) {
        self.set_frozen(false);
    }

    /// True between [`Param::freeze`] and [`Param::unfreeze`].
    pub fn is_frozen(&self) -> bool {
        self.entry.as_ref().is_ok_and(|&number| self.store.lock().entries[number].frozen)
    }

    fn set_frozen(&self, frozen: bool) {
        let Ok(number) = self.entry else { return };
        let entry = &mut self.store.lock().entries[number];
        if std::mem::replace(&mut entry.frozen, frozen) != frozen {
            entry.leaves = [None, None];
        }
    }
}

impl fmt::Debug for Param {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shape() {
            Ok(shape) => write!(f, "Param({} {shape})", self.name()),
            Err(error) => write!(f, "Param(invalid: {error})"),
        }
    }
}
