//! Saving and resuming, in safetensors files.
//!
//! [`ParamStore::save`] writes the weights alone, in PyTorch's names and layouts and in F32, so that files go both
//! ways. A checkpoint holds what a resumed run needs to end in the same bits, as any number of named [parts](Part):
//! stores, optimizers, positions in data, counters of random draws, a program's own JSON and structs. F32 from a GPU,
//! F64 from the reference; each [`State`](crate::State) keeps its dtype.
//!
//! ```
//! use kiln::prelude::*;
//! use kiln::train::checkpoint::Checkpoint;
//! use serde_json::{Value, json};
//!
//! # let device = Device::cpu();
//! # let path = std::env::temp_dir().join(format!("kiln-doc-{}-gan.safetensors", std::process::id()));
//! # let digits = kiln::data::digits().train;
//! let (generator, critic) = (ParamStore::new(&device, 1), ParamStore::new(&device, 2));
//! let makes = Linear::new(&generator.root().child("out"), 4, 3);
//! let judges = Linear::new(&critic.root().child("score"), 3, 1);
//! let mut adam_g = AdamW::new(&generator, AdamWConfig::default());
//! let mut adam_c = AdamW::new(&critic, AdamWConfig::default());
//! let mut loader = digits.batches(64).shuffle(7);
//! let score = judges.forward(&makes.forward(&device.ones(&[5, 4]), Mode::Train), Mode::Train).mean_all();
//! adam_g.step(&(-&score))?;
//! # loader.next();
//!
//! Checkpoint::parts()
//!     .store("generator", &generator)
//!     .store("critic", &critic)
//!     .optimizer("generator", &adam_g)
//!     .optimizer("critic", &adam_c)
//!     .position("train", loader.position())
//!     .value("plateau", json!({ "best": 0.31, "waited": 2 }))
//!     .save(&path)?;
//!
//! let mut plateau = Value::Null;
//! let file = Checkpoint::open(&path)?; // reads it once
//! file.load()
//!     .store("generator", &generator)
//!     .store("critic", &critic)
//!     .optimizer("generator", &mut adam_g)
//!     .optimizer("critic", &mut adam_c)
//!     .part("train", &mut loader) // seeks
//!     .value("plateau", &mut plateau)
//!     .finish()?; // all of it, or an error that says why and nothing
//! assert_eq!(plateau["best"], 0.31);
//! assert_eq!((adam_g.steps(), adam_c.steps(), loader.position().batch), (1, 0, 1));
//! # std::fs::remove_file(&path).unwrap();
//! # Ok::<(), Error>(())
//! ```
//!
//! [`Checkpoint::save`] and [`Checkpoint::load`] are the short form for one store, one optimizer and one position: the
//! store and the optimizer `model`, the position `train` and, of what the program adds, the value `metadata`.
//!
//! **Parts.** A part is known by its kind and its name: a store and its optimizer may have the same one. A part that
//! the file has not, one that was saved as another kind, and one of the file that the program does not ask for
//! ([`Loading::rest_ignored`] lets it be) is an error that names it. All parts are checked before anything is written,
//! and none is then taken without the others; only a device that fails in the middle of writing can leave a part of
//! them.
//!
//! **Replacing a file.** The new content goes to a file of another name in the same folder, is brought to the disk and
//! then takes the old one's place: whoever reads meanwhile finds a whole file, also where several programs save to one
//! path, and whoever stops the writer leaves the old file whole. What a killed writer leaves (`.kiln-*.tmp`) the next
//! save to that path removes, unless a living one still holds it. A path that is a symbolic link is followed: the file
//! that it leads to is replaced, and the link stays. Permissions stay those of the file that is replaced.
//!
//! **What is refused.** A file is taken as a whole or not at all: a name that is missing, unknown or there twice, bytes
//! that belong to no tensor, a weight or a moment that is not finite, a state with a NaN, a number that the model's
//! dtype cannot hold are an error that says which, and nothing has changed then. What could not be loaded is not saved
//! either: the old file stays.
//!
//! **Memory.** Saving takes a few megabytes of the host whatever the size of the model, loading once the size of the
//! file.
//!
//! # The format
//!
//! A safetensors file with a text `kiln` in its metadata, which is JSON: `{"version": 2, "parts": {"kind/name": ..}}`,
//! for each part what it gives besides tensors. The tensors of a part are named `kind/name/` and then as the part names
//! them: `optimizer/critic/m.score.weight`. Only where a file has one store do its weights keep their plain names
//! (`score.weight`), for PyTorch and [`ParamStore::load`] to read. No kind or name of a part has a `/`, so that two
//! parts never share a name; a parameter whose plain name begins like that of another part's tensors is refused when it
//! is saved. Files of version 1 (one store with plain names, tensors of one optimizer below `optimizer/`) are loaded as
//! if they had been saved by the short form.

mod averages;
mod index;
mod kinds;
mod lbfgs;
mod loading;
mod names;
mod part;
mod saving;
mod store;
mod weights;
pub(super) use store::save_weights;

use std::path::Path;

use serde_json::{Map, Value};

use crate::data::Position;
use crate::error::Result;
use crate::optim::Optimizer;
use crate::params::ParamStore;
use names::{METADATA, MODEL, OPTIMIZER, POSITION, TRAIN, VALUE};

pub use loading::{Loading, Opened};
pub use part::{Commit, Part, PartReader, PartWriter};
pub use saving::Parts;
pub use weights::{FileInfo, Load, Loaded, Save, TensorInfo};

/// What a checkpoint of [`Checkpoint::save`] says besides weights and optimizer state; and the way to all others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checkpoint {
    /// Steps of the optimizer, if it was saved.
    pub steps: u64,
    /// The batch that comes next.
    pub position: Option<Position>,
    /// What the program added.
    pub metadata: Map<String, Value>,
}

impl Checkpoint {
    /// A checkpoint of any parts, none yet.
    pub fn parts<'a>() -> Parts<'a> {
        Parts::default()
    }

    /// Reads a checkpoint, and checks that it is a whole one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::File`](crate::Error::File) for a damaged file,
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if it is none or of another version.
    pub fn open(path: impl AsRef<Path>) -> Result<Opened> {
        Opened::read(path.as_ref())
    }

    /// [`Checkpoint::open`] for a file that is in memory, as [`Parts::save_bytes`] gives it.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Opened> {
        Opened::of_bytes(bytes)
    }

    /// Saves everything that a resumed run of one model needs. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) of a step that has just finished,
    /// [`Error::Value`](crate::Error::Value) between `accumulate` and `step`,
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) for what could not be loaded again, or
    /// [`Error::Io`](crate::Error::Io); an old file is then still whole.
    pub fn save(
        path: impl AsRef<Path>,
        store: &ParamStore,
        optimizer: Option<&dyn Optimizer>,
        position: Option<Position>,
    ) -> Result<()> {
        Checkpoint::save_with(path, store, optimizer, position, Map::new())
    }

    /// [`Checkpoint::save`] with data of the program's own.
    ///
    /// # Errors
    /// As [`Checkpoint::save`].
    pub fn save_with(
        path: impl AsRef<Path>,
        store: &ParamStore,
        optimizer: Option<&dyn Optimizer>,
        position: Option<Position>,
        metadata: Map<String, Value>,
    ) -> Result<()> {
        let mut parts = Checkpoint::parts().store(MODEL, store);
        if let Some(optimizer) = optimizer {
            parts = parts.optimizer(MODEL, optimizer);
        }
        if let Some(position) = position {
            parts = parts.position(TRAIN, position);
        }
        if !metadata.is_empty() {
            parts = parts.value(METADATA, metadata);
        }
        parts.save(path)
    }

    /// Loads a checkpoint of [`Checkpoint::save`] into a model and, if one is given, its optimizer; the store's random
    /// draws go on where they were. Seek the loader to [`Checkpoint::position`].
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::File`](crate::Error::File) for a damaged file,
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if it is not of this model and optimizer, or holds what no run
    /// can have left there; nothing has changed then.
    pub fn load(
        path: impl AsRef<Path>,
        store: &ParamStore,
        optimizer: Option<&mut dyn Optimizer>,
    ) -> Result<Checkpoint> {
        let file = Checkpoint::open(path)?;
        let metadata = match file.value(METADATA) {
            None => Map::new(),
            Some(Value::Object(metadata)) => metadata.clone(),
            Some(_) => return Err(file.refuse("what the program added is no object", "load it with Checkpoint::open")),
        };
        let mut position = file.has(POSITION, TRAIN).then(Position::default);
        let mut loading = file.load().store(MODEL, store).passing_over(VALUE, METADATA);
        loading = match optimizer {
            Some(optimizer) => loading.optimizer(MODEL, optimizer),
            None => loading.passing_over(OPTIMIZER, MODEL),
        };
        if let Some(position) = &mut position {
            loading = loading.position(TRAIN, position);
        }
        loading.finish()?;
        let steps = file.state(OPTIMIZER, MODEL).and_then(|state| state["steps"].as_u64());
        Ok(Checkpoint { steps: steps.unwrap_or(0), position, metadata })
    }
}
