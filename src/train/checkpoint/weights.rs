//! Weights in parts: what a file has without a model, and the way of some of it into some of a model.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::index::{Index, KEY};
use super::part::PartReader;
use super::store::{only_store, save_weights};
use crate::dtype::DType;
use crate::error::{Error, Problem, Result};
use crate::layout::Meta;
use crate::packed::{Demand, Packed};
use crate::params::ParamStore;
use crate::state::State;
use crate::tensor::Tensor;
use crate::train::safetensors::{self, Content, Target};
use crate::transfer;

/// Which tensors of a file go into which parameters and states: [`ParamStore::load_with`].
pub struct Load<'a> {
    /// True (the default) where all of the model must be in the file and all of the file in the model.
    pub strict: bool,
    /// Of the file, only the names that begin with this are read, and without it: `"module."` of a model that was saved in
    /// a wrapper. What begins otherwise counts as left over.
    pub prefix: &'a str,
    /// The model's name for a name of the file, after `prefix` is gone; `None` leaves the tensor out, and it counts neither
    /// as left over nor as missing.
    pub rename: &'a dyn Fn(&str) -> Option<String>,
    /// True where a tensor of another shape than the model's is passed over and reported, not an error: a new head on an
    /// old body.
    pub skip_mismatched: bool,
}

impl Default for Load<'_> {
    fn default() -> Self {
        Load { strict: true, prefix: "", rename: &|name| Some(name.to_string()), skip_mismatched: false }
    }
}

impl fmt::Debug for Load<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Load(strict: {}, prefix: {:?})", self.strict, self.prefix)
    }
}

/// What [`ParamStore::load_with`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Parameters and states that were loaded, by the model's names, in order.
    pub loaded: Vec<String>,
    /// Parameters and states of the model that the file has not: they are as they were.
    pub missing: Vec<String>,
    /// Tensors of the file, by its names, that the model has not.
    pub left_over: Vec<String>,
    /// Parameters and states that the file has in another shape: they are as they were. Only with
    /// [`Load::skip_mismatched`].
    pub mismatched: Vec<String>,
}

/// A tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name there.
    pub name: String,
    /// Its type there, in the format's word: `F32`, `BF16`, `I64`.
    pub dtype: String,
    /// Axis lengths.
    pub shape: Vec<usize>,
}

/// What a safetensors file says, without a model to load it into.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileInfo {
    /// Its tensors, by name.
    pub tensors: Vec<TensorInfo>,
    /// Its texts: class names and the like, as [`Save::metadata`] wrote them.
    pub metadata: BTreeMap<String, String>,
}

impl FileInfo {
    /// Reads and checks a file of weights or a checkpoint. Takes as much memory as the file until it returns.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] for a damaged file.
    pub fn read(path: impl AsRef<Path>) -> Result<FileInfo> {
        let content = safetensors::read(path.as_ref())?;
        let tensor = |(name, dtype, shape): (&str, safetensors::Dtype, &[usize])| TensorInfo {
            name: name.into(),
            dtype: dtype.to_string(),
            shape: shape.to_vec(),
        };
        Ok(FileInfo { tensors: content.entries().map(tensor).collect(), metadata: content.metadata })
    }
}

/// What of a model goes into a file: [`ParamStore::save_with`].
#[derive(Clone, Copy)]
pub struct Save<'a> {
    /// True for the parameters and states to save, by name; all by default.
    pub which: &'a dyn Fn(&str) -> bool,
    /// Texts that travel with them: class names, what was done to the inputs. [`FileInfo::metadata`] has them again. Kiln
    /// itself writes `format`, and in checkpoints `kiln`.
    pub metadata: &'a [(&'a str, &'a str)],
}

impl Default for Save<'_> {
    fn default() -> Self {
        Save { which: &|_| true, metadata: &[] }
    }
}

impl fmt::Debug for Save<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Save(metadata: {:?})", self.metadata)
    }
}

impl ParamStore {
    /// Saves the parameters and states whose name `which` takes, as [`ParamStore::save`] saves all: adapters alone, or a
    /// body without its head.
    ///
    /// # Errors
    /// As [`ParamStore::save_with`].
    #[track_caller]
    pub fn save_where(&self, path: impl AsRef<Path>, which: impl Fn(&str) -> bool) -> Result<()> {
        self.save_with(path, &Save { which: &which, ..Save::default() })
    }

    /// Saves some of the parameters and states, with texts.
    ///
    /// # Errors
    /// [`Error::Value`] if none is taken or a text has one of the names that Kiln writes; else as [`ParamStore::save`].
    #[track_caller]
    pub fn save_with(&self, path: impl AsRef<Path>, save: &Save<'_>) -> Result<()> {
        let at = std::panic::Location::caller();
        let refuse = |what: String, next| Problem::Value(what, next).at("save_with", at);
        if let Some((key, _)) = save.metadata.iter().find(|(key, _)| [KEY, "format"].contains(key)) {
            return Err(refuse(format!("a text named `{key}`"), "give it another name: Kiln writes this one itself"));
        }
        // Other threads update before it or after it.
        let _gate = self.state().enter();
        let names = self.names().into_iter().chain(self.states().into_iter().map(|(name, _)| name.to_string()));
        let count = names.filter(|name| (save.which)(name)).count();
        if count == 0 {
            return Err(refuse("no parameter or state is taken".into(), "take at least one"));
        }
        save_weights(self, Target::File(path.as_ref()), save.metadata, |item| Ok((save.which)(&item.name)))
    }

    /// Loads some of a file into some of the model; what was missing and what was left over is in the result. Files of F64,
    /// F32, F16, BF16 and of integers are read, PyTorch's and [`ParamStore::save`]'s, and the weights of a checkpoint's
    /// only store. Tensors recorded before keep the values from before.
    ///
    /// ```
    /// use kiln::prelude::*;
    /// use kiln::train::checkpoint::Load;
    ///
    /// # let path = std::env::temp_dir().join(format!("kiln-doc-{}-load.safetensors", std::process::id()));
    /// let old = ParamStore::new(&Device::cpu(), 1);
    /// Linear::new(&(&old.root() / "body"), 4, 3);
    /// Linear::new(&(&old.root() / "head"), 3, 10);
    /// old.save(&path)?;
    ///
    /// let new = ParamStore::new(&Device::cpu(), 2);
    /// Linear::new(&(&new.root() / "body"), 4, 3);
    /// Linear::new(&(&new.root() / "head"), 3, 2);
    /// let loaded = new.load_with(&path, &Load { skip_mismatched: true, ..Load::default() })?;
    /// assert_eq!(loaded.loaded, ["body.bias", "body.weight"]);
    /// assert_eq!(loaded.mismatched, ["head.bias", "head.weight"]);
    /// # std::fs::remove_file(&path).unwrap();
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`ParamStore::load`], where `load` does not say that something may be missing, left over or of another shape;
    /// [`Error::Checkpoint`] if two names of the file become one of the model. Nothing has changed then.
    pub fn load_with(&self, path: impl AsRef<Path>, load: &Load<'_>) -> Result<Loaded> {
        let content = safetensors::read(path.as_ref())?;
        let index = content.metadata.contains_key(KEY).then(|| Index::of(&content)).transpose()?;
        let from = match &index {
            Some(index) => only_store(&content, index)?,
            None => PartReader::of_weights(&content),
        };
        let _gate = self.state().enter();
        Matching::of(&from, &content, load)?.put_into(self, load)
    }
}

/// The names of a file by those of the model.
struct Matching<'a, 'f> {
    from: &'f PartReader<'a>,
    names: BTreeMap<String, &'a str>,
    report: Loaded,
}

impl<'a, 'f> Matching<'a, 'f> {
    fn of(from: &'f PartReader<'a>, content: &Content, load: &Load<'_>) -> Result<Matching<'a, 'f>> {
        let mut matching = Matching { from, names: BTreeMap::new(), report: Loaded::default() };
        for name in from.names() {
            let Some(bare) = name.strip_prefix(load.prefix) else {
                matching.report.left_over.push(name.into());
                continue;
            };
            let Some(own) = (load.rename)(bare) else { continue };
            if let Some(other) = matching.names.insert(own.clone(), name) {
                let what = format!("`{other}` and `{name}` both become `{own}`");
                return Err(content.refuse(what, "rename each to a name of its own, or leave one out"));
            }
        }
        Ok(matching)
    }

    /// What is there for a parameter or state, if anything is to be loaded into it.
    fn take(
        &mut self,
        own: &str,
        meta: &Meta,
        exact: bool,
        demand: Demand,
        load: &Load<'_>,
    ) -> Result<Option<Packed<'a>>> {
        let Some(name) = self.names.remove(own) else {
            self.report.missing.push(own.into());
            return Ok(None);
        };
        if load.skip_mismatched && self.from.shape(name) != Some(&meta.shape[..]) {
            self.report.mismatched.push(own.into());
            return Ok(None);
        }
        let numbers = self.from.numbers(name, &meta.shape, meta.dtype, exact, demand)?;
        self.report.loaded.push(own.into());
        Ok(Some(numbers))
    }

    fn put_into(mut self, store: &ParamStore, load: &Load<'_>) -> Result<Loaded> {
        let (device, exact) = (store.device(), store.device().is_exact());
        let mut parameters = vec![];
        for (number, place) in store.layout()?.iter().enumerate() {
            let meta = Meta { shape: place.shape, dtype: DType::F32 };
            let numbers = self.take(&place.name, &meta, exact, Demand::Finite, load)?;
            parameters.extend(numbers.map(|numbers| (number, numbers)));
        }
        let mut states: Vec<(State, Tensor)> = vec![];
        for (name, state) in store.states() {
            let meta = state.meta()?;
            if let Some(numbers) = self.take(&name, &meta, exact, Demand::NotNan, load)? {
                states.push((state, transfer::store(device, meta, &numbers)?));
            }
        }
        let left = std::mem::take(&mut self.names);
        self.report.left_over.extend(left.into_values().map(String::from));
        for list in
            [&mut self.report.loaded, &mut self.report.missing, &mut self.report.left_over, &mut self.report.mismatched]
        {
            list.sort_unstable();
        }
        if load.strict {
            self.check_whole()?;
        }
        // Nothing of the store can be in the way once what is held of it has been computed.
        store.settle_held()?;
        store.overwrite_packed(&parameters)?;
        states.into_iter().for_each(|(state, value)| state.set(value));
        Ok(self.report)
    }

    fn check_whole(&self) -> Result<(), Error> {
        const NEXT: &str = "load with `strict: false`, or give a `prefix` or a `rename` that fits";
        let some = |names: &[String]| {
            let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
            let more = names.len() - shown.len();
            shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        };
        match (&self.report.missing[..], &self.report.left_over[..]) {
            ([], []) => Ok(()),
            ([], left) => Err(self.from.refuse(format!("it has {}, which the model has not", some(left)), NEXT)),
            (missing, []) => Err(self.from.refuse(format!("it has not {}, which the model has", some(missing)), NEXT)),
            (missing, left) => {
                let what = format!("it has not {}, which the model has, but {}", some(missing), some(left));
                Err(self.from.refuse(what, NEXT))
            }
        }
    }
}
