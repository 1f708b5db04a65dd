//! A file on its way into parts.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::index::{self, Index};
use super::names::VALUE;
use super::part::{Commit, Part, PartReader};
use super::store::read_store;
use crate::data::Position;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::params::ParamStore;
use crate::train::safetensors::{self, Content};
use crate::version::StoreState;
use crate::wait;

/// Checks a part, and gives what puts it in place.
type Read<'a> = Box<dyn FnOnce(&PartReader<'a>) -> Result<Commit<'a>> + 'a>;

/// A checkpoint that has been read: [`Checkpoint::open`](super::Checkpoint::open). It takes as much memory as the file.
pub struct Opened {
    content: Content,
    index: Index,
}

impl Opened {
    pub(super) fn read(path: &Path) -> Result<Opened> {
        Opened::of(safetensors::read(path)?)
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Result<Opened> {
        Opened::of(safetensors::read_bytes(bytes)?)
    }

    fn of(content: Content) -> Result<Opened> {
        let index = Index::of(&content)?;
        Ok(Opened { content, index })
    }

    /// Kind and name of each part.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.index.keys().filter_map(|key| key.split_once('/'))
    }

    /// True if it has a part of this kind (`store`, `optimizer`, `position`, `value`, `draws`, or that of a part of
    /// your own) and name.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        self.state(kind, name).is_some()
    }

    /// A value that was saved by [`Parts::value`](super::Parts::value): what a program must know before it can make
    /// what is to be loaded.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.state(VALUE, name)
    }

    /// What a part was saved with besides tensors.
    pub(super) fn state(&self, kind: &str, name: &str) -> Option<&Value> {
        self.index.part(&index::key(kind, name)).map(|(_, state)| state)
    }

    /// Asks for parts, none yet.
    pub fn load(&self) -> Loading<'_> {
        Loading { file: self, asked: vec![], passed_over: vec![], ignores_rest: false }
    }

    pub(super) fn refuse(&self, what: impl Into<String>, next: &'static str) -> Error {
        self.content.refuse(what, next)
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opened({}: {})", self.content.path().display(), index::labels(self.index.keys()))
    }
}

/// The parts that a program wants of a file: [`Opened::load`].
#[must_use = "nothing is loaded before `finish`"]
pub struct Loading<'a> {
    file: &'a Opened,
    asked: Vec<Asked<'a>>,
    /// Keys of parts that may be left, there or not.
    passed_over: Vec<String>,
    ignores_rest: bool,
}

struct Asked<'a> {
    key: String,
    store: Option<ParamStore>,
    read: Read<'a>,
}

impl<'a> Loading<'a> {
    /// A part of any kind.
    pub fn part<P: Part + ?Sized>(self, name: &str, part: &'a mut P) -> Loading<'a> {
        let (key, store) = (index::key(part.kind(), name), part.changes_with().cloned());
        self.with(key, store, Box::new(move |from| part.read(from)))
    }

    /// Parameters and states of a model and the counter of its random draws; on a GPU, the kernels that tuning chose
    /// too, if it is the same adapter and driver. Tensors recorded before keep the values from before.
    pub fn store(self, name: &str, store: &ParamStore) -> Loading<'a> {
        let (key, own) = (index::key(store.kind(), name), store.clone());
        self.with(key, Some(store.clone()), Box::new(move |from| read_store(&own, from)))
    }

    /// An optimizer.
    pub fn optimizer(self, name: &str, optimizer: &'a mut (dyn Optimizer + 'a)) -> Loading<'a> {
        self.part(name, optimizer)
    }

    /// The batch that comes next. A [`Loader`](crate::data::Loader) is such a part itself.
    pub fn position(self, name: &str, position: &'a mut Position) -> Loading<'a> {
        self.part(name, position)
    }

    /// A program's own.
    pub fn value(self, name: &str, value: &'a mut Value) -> Loading<'a> {
        self.part(name, value)
    }

    /// Lets parts of the file be that the program does not ask for.
    pub fn rest_ignored(mut self) -> Loading<'a> {
        self.ignores_rest = true;
        self
    }

    /// Lets one part be.
    pub(super) fn passing_over(mut self, kind: &str, name: &str) -> Loading<'a> {
        self.passed_over.push(index::key(kind, name));
        self
    }

    fn with(mut self, key: String, store: Option<ParamStore>, read: Read<'a>) -> Loading<'a> {
        self.asked.push(Asked { key, store, read });
        self
    }

    /// Loads all of it. Waits for the devices that parts are on.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a part that is missing, of another kind, asked for twice or not at all, or that holds
    /// what it cannot have been saved with; what a part of your own refuses; nothing has changed then.
    /// [`Error::DeviceLost`] and the like where a device fails while it is written to: what was loaded until then
    /// stays.
    pub fn finish(self) -> Result<()> {
        self.check_names()?;
        let file = self.file;
        // Other threads take their steps before all of it or after all of it.
        let stores: Vec<Arc<StoreState>> =
            self.asked.iter().filter_map(|asked| Some(asked.store.as_ref()?.state().clone())).collect();
        let _gates = StoreState::enter_all(&stores);
        let mut commits = vec![];
        for Asked { key, read, .. } in self.asked {
            let from = PartReader::new(&file.content, &file.index, &key);
            let from = from.ok_or_else(|| Error::internal("a part that was there is gone"))?;
            commits.push(read(&from)?);
            from.all_taken(|_| false)?;
        }
        commits.into_iter().try_for_each(|commit| commit())
    }

    /// [`Loading::finish`] without blocking the thread: waits first for the steps under way, whose reports an optimizer
    /// that is loaded forgets.
    ///
    /// # Errors
    /// As [`Loading::finish`].
    pub async fn finish_async(self) -> Result<()> {
        let stores: Vec<ParamStore> = self.asked.iter().filter_map(|asked| asked.store.clone()).collect();
        wait::unblocked(|| stores.iter().try_for_each(|store| store.device().finish())).await?;
        wait::instead("Loading::finish", "Loading::finish_async", self.finish())
    }

    /// `Err` unless what is asked for is what there is.
    fn check_names(&self) -> Result<()> {
        let Loading { file, asked, passed_over, .. } = self;
        for (number, Asked { key, .. }) in asked.iter().enumerate() {
            if asked[..number].iter().any(|other| other.key == *key) {
                let what = format!("{} is asked for twice", index::label(key));
                return Err(file.refuse(what, "ask for each part once"));
            }
            if file.index.part(key).is_none() {
                return Err(self.missing(key));
            }
        }
        let is_left =
            |key: &&str| !asked.iter().any(|asked| asked.key == *key) && !passed_over.iter().any(|p| p == key);
        let left: Vec<&str> = file.index.keys().filter(is_left).collect();
        if self.ignores_rest || left.is_empty() {
            return Ok(());
        }
        let what = format!("it has {}, which the program does not ask for", index::labels(left));
        Err(file.refuse(what, "ask for all parts, or say that the rest may be left with Loading::rest_ignored"))
    }

    fn missing(&self, key: &str) -> Error {
        let name = |key: &str| key.split_once('/').map(|(_, name)| name.to_string());
        let others = || self.file.index.keys();
        let namesakes: Vec<&str> = others().filter(|other| name(other) == name(key)).collect();
        let asked_for = |other: &&&str| self.asked.iter().any(|asked| asked.key == **other);
        match namesakes.iter().find(|other| !asked_for(other)) {
            Some(other) => {
                let what = format!("{} was saved there, where {} is asked for", index::label(other), index::label(key));
                self.file.refuse(what, "ask for each part as what it was saved as")
            }
            None => {
                let what = format!("it has no {}, but {}", index::label(key), index::labels(others()));
                self.file.refuse(what, "load a file that was saved with all parts, or leave this one out")
            }
        }
    }
}
