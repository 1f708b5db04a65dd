//! What a checkpoint can hold: anything that gives JSON and named tensors, and takes them back in two steps.

use std::cell::RefCell;
use std::path::Path;

use serde_json::Value;

use super::index::{self, Index};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::layout::Meta;
use crate::packed::{Demand, Packed};
use crate::params::ParamStore;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::train::safetensors::{Content, Item};
use crate::transfer::{self, Place};

const SAME_MODEL: &str = "load a file that was saved from the same model";

/// Puts in place what [`Part::read`] has checked.
pub type Commit<'a> = Box<dyn FnOnce() -> Result<()> + 'a>;

/// Something that a checkpoint can hold: JSON, and tensors with names.
///
/// [`ParamStore`], optimizers, [averages](crate::optim::Average) of weights, [`Plateau`](crate::schedule::Plateau),
/// [`Draws`](crate::Draws), [`Position`](crate::data::Position), [`Loader`](crate::data::Loader),
/// [`DataLoader`](crate::data::DataLoader) and [`serde_json::Value`] are parts. A struct of your own becomes one like this:
///
/// ```
/// use kiln::prelude::*;
/// use kiln::train::checkpoint::{Checkpoint, Commit, Part, PartReader, PartWriter};
///
/// /// The mean of the last losses, and how many there were.
/// struct Smoothed {
///     count: u64,
///     losses: Vec<f64>,
/// }
///
/// impl Part for Smoothed {
///     fn kind(&self) -> &str {
///         "smoothed loss"
///     }
///
///     fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
///         to.state(self.count);
///         to.values("losses", &[self.losses.len()], self.losses.clone())
///     }
///
///     fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
///         // Checked first, and nothing has changed yet.
///         let count = from.state().as_u64().ok_or_else(|| from.refuse("its count is none", "take another file"))?;
///         let losses = from.values("losses", &[self.losses.len()])?;
///         Ok(Box::new(move || {
///             (self.count, self.losses) = (count, losses);
///             Ok(())
///         }))
///     }
/// }
///
/// # let path = std::env::temp_dir().join(format!("kiln-doc-{}-part.safetensors", std::process::id()));
/// let saved = Smoothed { count: 7, losses: vec![0.5, 0.25] };
/// Checkpoint::parts().part("train", &saved).save(&path)?;
/// let mut loaded = Smoothed { count: 0, losses: vec![0.0; 2] };
/// Checkpoint::open(&path)?.load().part("train", &mut loaded).finish()?;
/// assert_eq!((loaded.count, loaded.losses), (7, vec![0.5, 0.25]));
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), Error>(())
/// ```
pub trait Part {
    /// What it is, in a word or two and without `/`: `optimizer`. A file keeps it with the part's name, and what was
    /// saved as another kind is refused.
    fn kind(&self) -> &str;

    /// Gives what a file shall hold of it. Tensors are read from their device only while the file is written, some
    /// megabytes at a time.
    ///
    /// # Errors
    /// What is wrong with it: nothing is saved then. [`PartWriter::refuse`] makes an error that names file and part.
    fn write(&self, to: &mut PartWriter<'_>) -> Result<()>;

    /// Checks what a file holds of it, and changes nothing: another part may be refused. What it returns is called once
    /// all parts have been checked, and puts everything in place.
    ///
    /// All that can fail belongs here: reading JSON, checking sizes, making tensors ([`PartReader::tensor`] does). A
    /// tensor of the file that is not asked for here is refused by name.
    ///
    /// # Errors
    /// What does not fit: nothing is loaded then. [`PartReader::refuse`] makes an error that names file and part.
    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>>;

    /// The store whose steps change this part too, if there is one: no thread takes a step of it while the checkpoint
    /// is saved or loaded.
    fn changes_with(&self) -> Option<&ParamStore> {
        None
    }
}

/// Takes what a file shall hold of a part.
pub struct PartWriter<'a> {
    path: &'a Path,
    /// How errors call the part.
    label: String,
    /// What stands before the names of its tensors.
    prefix: String,
    pub(super) state: Value,
    pub(super) items: Vec<Item>,
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(path: &'a Path, label: String, prefix: &str) -> PartWriter<'a> {
        PartWriter { path, label, prefix: prefix.into(), state: Value::Null, items: vec![] }
    }

    /// All but tensors, as JSON; null unless this is called. Numbers come back to the bit, but JSON has none that are
    /// not finite: write such ones as text (`x.to_string()`, which `parse` gives back to the bit).
    pub fn state(&mut self, state: impl Into<Value>) {
        self.state = state.into();
    }

    /// A tensor, in its own dtype; from the reference device, F32 with all f64 bits. It must hold no NaN when the file
    /// is written.
    ///
    /// # Errors
    /// The error that it carries.
    pub fn tensor(&mut self, name: impl Into<String>, value: &Tensor) -> Result<()> {
        if let Some(error) = value.error() {
            return Err(error.clone());
        }
        let Meta { shape, dtype } = value.meta();
        self.place(name, dtype, shape, Place::Tensor(value.clone()), Demand::NotNan);
        Ok(())
    }

    /// Numbers of the host, which come back to the bit. None of them may be NaN.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] unless there is one value an element of `shape`.
    pub fn values(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f64>) -> Result<()> {
        let name = name.into();
        let Some(found) = Shape::new(shape).filter(|shape| shape.elements() == values.len()) else {
            let what = format!("`{name}` has {} values for shape {shape:?}", values.len());
            return Err(self.refuse(what, "pass one value an element, and at most eight axes"));
        };
        self.place(name, DType::F32, found, Place::Host(values), Demand::NotNan);
        Ok(())
    }

    /// An error about this part: it names the file that was to be written.
    pub fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        Error::Checkpoint { path: self.path.into(), what: format!("{}: {}", self.label, what.into()), next }
    }

    /// Numbers where they lie; with all f64 bits where they have them.
    pub(crate) fn place(&mut self, name: impl Into<String>, dtype: DType, shape: Shape, place: Place, demand: Demand) {
        let name = format!("{}{}", self.prefix, name.into());
        self.items.push(Item { name, dtype, exact: place.is_exact(), shape, place, demand });
    }
}

/// What a file holds of a part.
pub struct PartReader<'a> {
    content: &'a Content,
    /// How errors call the part.
    label: String,
    prefix: &'a str,
    state: &'a Value,
    /// Names of its tensors, in order and without the prefix, and which of them have been asked for.
    names: Vec<&'a str>,
    taken: RefCell<Vec<bool>>,
}

impl<'a> PartReader<'a> {
    /// The part of `key`, if there is one.
    pub(super) fn new(content: &'a Content, index: &'a Index, key: &str) -> Option<PartReader<'a>> {
        let (key, state) = index.part(key)?;
        let prefix = index.owners().prefix(key);
        let own = content.names_below(prefix).filter(|name| index.owners().owner(name) == Some(key));
        let names: Vec<&str> = own.map(|name| &name[prefix.len()..]).collect();
        let taken = RefCell::new(vec![false; names.len()]);
        Some(PartReader { content, label: index::label(key), prefix, state, names, taken })
    }

    /// Weights of a file that is no checkpoint.
    pub(super) fn of_weights(content: &'a Content) -> PartReader<'a> {
        let names: Vec<&str> = content.names().map(|(name, _)| name).collect();
        let taken = RefCell::new(vec![false; names.len()]);
        PartReader { content, label: String::new(), prefix: "", state: &Value::Null, names, taken }
    }

    /// All but tensors, as [`PartWriter::state`] was given it.
    pub fn state(&self) -> &'a Value {
        self.state
    }

    /// Names of its tensors, in order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().copied()
    }

    /// Axis lengths of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.names.binary_search(&name).ok()?;
        Some(self.content.tensor(&format!("{}{name}", self.prefix))?.0)
    }

    /// A tensor on `device`, which must be there with this shape and dtype and hold no NaN. Its numbers are on the
    /// device when this returns.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with what does not fit, or what the device refuses.
    #[track_caller]
    pub fn tensor(&self, device: &Device, name: &str, shape: &[usize], dtype: DType) -> Result<Tensor> {
        let shape = self.known(name, shape)?;
        let numbers = self.numbers(name, &shape, dtype, device.is_exact(), Demand::NotNan)?;
        transfer::store(device, Meta { shape, dtype }, &numbers)
    }

    /// Numbers on the host, which must be there with this shape; none is NaN.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] with what does not fit.
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        let shape = self.known(name, shape)?;
        Ok(self.numbers(name, &shape, DType::F32, true, Demand::NotNan)?.to_vec())
    }

    /// An error about this part: it names the file.
    pub fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        let label = if self.label.is_empty() { String::new() } else { format!("{}: ", self.label) };
        self.content.refuse(format!("{label}{}", what.into()), next)
    }

    /// An error about what was saved besides tensors.
    pub(super) fn damaged(&self, what: impl std::fmt::Display) -> Error {
        self.refuse(format!("its metadata: {what}"), "take another copy of the file")
    }

    fn known(&self, name: &str, shape: &[usize]) -> Result<Shape> {
        Shape::new(shape).ok_or_else(|| {
            let what = format!("`{name}` was asked for with shape {shape:?}, which no tensor has");
            self.refuse(what, "ask for at most eight axes and 2^32 - 1 elements")
        })
    }

    fn find(&self, name: &str) -> Option<(&'a [usize], Packed<'a>)> {
        let number = self.names.binary_search(&name).ok()?;
        self.taken.borrow_mut()[number] = true;
        self.content.tensor(&format!("{}{name}", self.prefix))
    }

    /// The elements of a tensor, which must be there with this shape and be what `demand` says; `exact` where floats
    /// keep their f64 bits.
    pub(crate) fn numbers(
        &self,
        name: &str,
        shape: &Shape,
        dtype: DType,
        exact: bool,
        demand: Demand,
    ) -> Result<Packed<'a>> {
        let Some((found, numbers)) = self.find(name) else {
            return Err(self.refuse(format!("there is no tensor `{name}`"), SAME_MODEL));
        };
        if *found != shape[..] {
            let what = format!("`{name}` has shape {found:?}, where {shape} is wanted");
            return Err(self.refuse(what, "build the model with the sizes that the file was saved with"));
        }
        let refuse = |next| move |why| self.refuse(format!("`{name}` {why}"), next);
        numbers.suits(dtype).map_err(refuse("convert it: floats are read as F32, F64, F16 or BF16"))?;
        let sound = numbers.check(dtype, exact, demand, 0);
        sound.map_err(refuse("load a file from before this happened, or put the value right"))?;
        Ok(numbers)
    }

    /// Shape and elements of a tensor whatever they are.
    pub(super) fn any(&self, name: &str) -> Result<(Shape, Packed<'a>)> {
        let found = self.find(name).and_then(|(shape, numbers)| Some((Shape::new(shape)?, numbers)));
        found.ok_or_else(|| self.refuse(format!("`{name}` has an absurd shape"), SAME_MODEL))
    }

    /// `Err` with a tensor that nobody has asked for, but for those that `may` stay.
    pub(super) fn all_taken(&self, may: impl Fn(&str) -> bool) -> Result<()> {
        let taken = self.taken.borrow();
        let left = self.names.iter().zip(&*taken).find(|(name, taken)| !**taken && !may(name));
        match left {
            Some((name, _)) => Err(self.refuse(format!("it has `{name}`, which nothing here takes"), SAME_MODEL)),
            None => Ok(()),
        }
    }
}
