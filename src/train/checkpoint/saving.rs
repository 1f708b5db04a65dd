//! Parts on their way into a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::index::{self, KEY, Owners};
use super::names::VALUE;
use super::part::{Part, PartWriter};
use crate::data::Position;
use crate::error::{Error, Result};
use crate::optim::Optimizer;
use crate::params::ParamStore;
use crate::train::json;
use crate::train::safetensors::{self, Target};
use crate::version::StoreState;
use crate::wait;

/// What a part gives when it is asked.
type Write<'a> = Box<dyn Fn(&mut PartWriter<'_>) -> Result<()> + 'a>;

/// A checkpoint that is being put together: [`Checkpoint::parts`](super::Checkpoint::parts).
#[must_use = "nothing is saved before `save`"]
#[derive(Default)]
pub struct Parts<'a> {
    parts: Vec<Given<'a>>,
}

struct Given<'a> {
    kind: String,
    name: String,
    store: Option<ParamStore>,
    write: Write<'a>,
}

impl<'a> Parts<'a> {
    /// A part of any kind.
    pub fn part<P: Part + ?Sized>(self, name: &str, part: &'a P) -> Parts<'a> {
        self.with(part.kind(), name, part.changes_with(), Box::new(move |to| part.write(to)))
    }

    /// Parameters and states of a model, the counter of its random draws and the kernels that tuning chose on its
    /// device.
    pub fn store(self, name: &str, store: &ParamStore) -> Parts<'a> {
        let own = store.clone();
        self.with(store.kind(), name, Some(store), Box::new(move |to| own.write(to)))
    }

    /// An optimizer.
    pub fn optimizer(self, name: &str, optimizer: &'a dyn Optimizer) -> Parts<'a> {
        self.part(name, optimizer)
    }

    /// The batch that a loader gives next.
    pub fn position(self, name: &str, position: Position) -> Parts<'a> {
        self.with(position.kind(), name, None, Box::new(move |to| position.write(to)))
    }

    /// A program's own: its numbers come back to the bit. JSON has none that are not finite; write those as text.
    pub fn value(self, name: &str, value: impl Into<Value>) -> Parts<'a> {
        let value = value.into();
        self.with(VALUE, name, None, Box::new(move |to| value.write(to)))
    }

    fn with(mut self, kind: &str, name: &str, store: Option<&ParamStore>, write: Write<'a>) -> Parts<'a> {
        self.parts.push(Given { kind: kind.into(), name: name.into(), store: store.cloned(), write });
        self
    }

    /// Writes the file. Waits for the devices that parts are on.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a name that is empty, has a `/` or is there twice among parts of its kind, and for
    /// what could not be loaded again; what a part is refused for, as [`Error::NonFinite`] of a step that has just
    /// finished or [`Error::Value`] of an optimizer between `accumulate` and `step`; or [`Error::Io`]. An old file is
    /// then still whole.
    pub fn save(self, path: impl AsRef<Path>) -> Result<()> {
        wait::instead("Parts::save", "Parts::save_bytes_async", self.write(Target::File(path.as_ref())))
    }

    /// The bytes of the file that [`Parts::save`] would write.
    ///
    /// # Errors
    /// As [`Parts::save`].
    pub fn save_bytes(self) -> Result<Vec<u8>> {
        let bytes = self.bytes();
        wait::instead("Parts::save_bytes", "Parts::save_bytes_async", bytes)
    }

    /// [`Parts::save_bytes`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Parts::save`], and [`Error::Data`] if steps go on meanwhile.
    pub async fn save_bytes_async(self) -> Result<Vec<u8>> {
        wait::consistent(|| self.stores().iter().map(|store| store.version()).sum(), || self.bytes()).await
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        self.write(Target::Memory(&mut bytes))?;
        Ok(bytes)
    }

    fn stores(&self) -> Vec<Arc<StoreState>> {
        self.parts.iter().filter_map(|part| Some(part.store.as_ref()?.state().clone())).collect()
    }

    fn write(&self, to: Target<'_>) -> Result<()> {
        let path = &to.path().to_path_buf();
        let refuse = |what: String, next| Err(Error::Checkpoint { path: path.into(), what, next });
        let mut states = BTreeMap::new();
        for Given { kind, name, .. } in &self.parts {
            if let Some(text) = [kind, name].into_iter().find(|text| !index::is_name(text)) {
                return refuse(format!("`{text}` cannot be the kind or the name of a part"), "use one without `/`");
            }
            let key = index::key(kind, name);
            if states.contains_key(&key) {
                return refuse(format!("{} is there twice", index::label(&key)), "give each part a name of its own");
            }
            states.insert(key, Value::Null);
        }
        let owners = Owners::of(states.keys().map(String::as_str));
        // Other threads take their steps before all of it or after all of it.
        let stores = self.stores();
        let _gates = StoreState::enter_all(&stores);
        let mut items = vec![];
        for Given { kind, name, write, .. } in &self.parts {
            let key = index::key(kind, name);
            let mut to = PartWriter::new(path, index::label(&key), owners.prefix(&key));
            write(&mut to)?;
            if let Some((item, owner)) = to.items.iter().find_map(|item| {
                let owner = owners.owner(&item.name).filter(|owner| *owner != key)?;
                Some((item, owner))
            }) {
                let what = format!("the parameter name `{}` is taken for {}", item.name, index::label(owner));
                return refuse(what, "rename the parameter, or the part");
            }
            items.append(&mut to.items);
            states.insert(key, to.state);
        }
        let text = index::text(states);
        if let Err(error) = json::parse(text.as_bytes()) {
            return refuse(format!("its metadata could not be read again: {error}"), "nest them less deep");
        }
        safetensors::write(to, items, &[(KEY, text)])
    }
}
