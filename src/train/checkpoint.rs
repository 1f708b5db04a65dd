//! Saving and resuming, in safetensors files.
//!
//! [`ParamStore::save`] writes the weights alone, in PyTorch's names and layouts and in F32, so that files go both ways.
//! [`Checkpoint::save`] adds what a resumed run needs to end in the same bits: the optimizer's state and step count, the
//! counter of random draws, the loader's position and, on a GPU, the kernels that tuning chose, which a run resumed on the
//! same adapter and driver keeps; F32 from a GPU, F64 from the reference.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::safetensors::{self, Content, Item};
use crate::array::Array;
use crate::data::Position;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::{Optimizer, OptimizerState};
use crate::params::ParamStore;
use crate::state::State;

/// Stands before the names of the optimizer's tensors.
const PREFIX: &str = "optimizer/";
/// Key of a checkpoint's metadata.
const KEY: &str = "kiln";
const VERSION: u64 = 1;
const SAME_MODEL: &str = "load a file that was saved from the same model";
const SAME_RUN: &str = "resume with the optimizer and settings that it was saved with, or load the weights alone";

impl ParamStore {
    /// Saves the weights: a file that PyTorch's safetensors reads. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] of a step that has just finished, or [`Error::Io`]; an old file is then still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        safetensors::write(path.as_ref(), &weights(self)?, false, "format", "pt".into())
    }

    /// Loads weights that [`ParamStore::save`], [`Checkpoint::save`] or PyTorch has saved. Tensors recorded before keep
    /// the values from before.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] for a damaged file, [`Error::Checkpoint`] if names or shapes are not the model's;
    /// nothing has changed then.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let content = safetensors::read(path.as_ref())?;
        let values = matching(self, &content)?;
        overwrite(self, &values)
    }
}

/// What a checkpoint says besides weights and optimizer state.
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
    /// Saves everything that a resumed run needs. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`] of a step that has just finished, [`Error::Value`] between `accumulate` and `step`, or
    /// [`Error::Io`]; an old file is then still whole.
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
        let path = path.as_ref();
        let mut items = weights(store)?;
        if let Some(item) = items.iter().find(|item| item.name.starts_with(PREFIX)) {
            let what = format!("the parameter name `{}` is taken for the optimizer's state", item.name);
            return Err(Error::Checkpoint { path: path.into(), what, next: "rename the parameter" });
        }
        let state = optimizer.map(|optimizer| optimizer.state()).transpose()?;
        let (seed, draw) = store.draws().position();
        let text = json!({
            "version": VERSION,
            "optimizer": state.as_ref().map(|state| json!({
                "rule": state.rule,
                // As text, which Rust reads back to the same bits.
                "lr": state.lr.to_string(),
                "steps": state.steps,
                "updates": state.updates,
                "loss_scale": state.loss_scale.map(|(scale, good)| (scale.to_string(), good)),
            })),
            "draws": [seed, draw],
            "position": position.map(|position| [position.epoch, position.batch]),
            "kernels": store.device().kernel_choices().map(|(owner, choices)| json!({"owner": owner, "choices": choices})),
            "metadata": metadata,
        });
        for (name, shape, values) in state.into_iter().flat_map(|state| state.tensors) {
            items.push(Item { name: format!("{PREFIX}{name}"), shape, values });
        }
        safetensors::write(path, &items, store.device().is_cpu(), KEY, text.to_string())
    }

    /// Loads a checkpoint into a model and, if one is given, its optimizer; the store's random draws go on where they
    /// were. Seek the loader to [`Checkpoint::position`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] for a damaged file, [`Error::Checkpoint`] if it is not of this model and optimizer;
    /// nothing has changed then.
    pub fn load(
        path: impl AsRef<Path>,
        store: &ParamStore,
        optimizer: Option<&mut dyn Optimizer>,
    ) -> Result<Checkpoint> {
        let content = safetensors::read(path.as_ref())?;
        let values = matching(store, &content)?;
        let text = content.metadata.get(KEY);
        let text = text.ok_or_else(|| content.refuse("it holds weights, not a checkpoint", "use ParamStore::load"))?;
        let damaged = |what: &str| content.refuse(format!("its metadata: {what}"), "take another copy of the file");
        let parsed: Value = serde_json::from_str(text).map_err(|error| damaged(&error.to_string()))?;
        if parsed["version"].as_u64() != Some(VERSION) {
            return Err(content.refuse(format!("its version is {}, not {VERSION}", parsed["version"]), SAME_RUN));
        }
        let pair = |value: &Value| Some((value.get(0)?.as_u64()?, value.get(1)?.as_u64()?));
        let draws = pair(&parsed["draws"]).ok_or_else(|| damaged("no random counter"))?;
        let position = pair(&parsed["position"]).map(|(epoch, batch)| Position { epoch, batch });
        let metadata = parsed["metadata"].as_object().cloned().unwrap_or_default();
        let saved = &parsed["optimizer"];
        if let Some(optimizer) = optimizer {
            if saved.is_null() {
                return Err(content.refuse("it was saved without an optimizer", SAME_RUN));
            }
            let state = state(saved, &content).ok_or_else(|| damaged("the optimizer's state"))?;
            optimizer.set_state(&state).map_err(|error| match error {
                Error::Value { what, .. } => content.refuse(what, SAME_RUN),
                other => other,
            })?;
        }
        overwrite(store, &values)?;
        store.draws().seek(draws);
        let kernels = &parsed["kernels"];
        if let (Some(owner), Some(choices)) = (kernels["owner"].as_str(), kernels["choices"].as_object()) {
            let text = |(class, choice): (&String, &Value)| Some((class.clone(), choice.as_str()?.to_string()));
            store.device().adopt_kernel_choices(owner, &choices.iter().filter_map(text).collect());
        }
        Ok(Checkpoint { steps: saved["steps"].as_u64().unwrap_or(0), position, metadata })
    }
}

/// The optimizer's state in a file.
fn state(saved: &Value, content: &Content) -> Option<OptimizerState> {
    let update = |entry: &Value| Some((entry.get(0)?.as_str()?.to_string(), entry.get(1)?.as_u64()?));
    let tensor = |name: &str| {
        let (shape, values) = content.any(name)?;
        Some((name.strip_prefix(PREFIX)?.to_string(), shape, values))
    };
    Some(OptimizerState {
        rule: saved["rule"].as_str()?.into(),
        lr: saved["lr"].as_str()?.parse().ok()?,
        steps: saved["steps"].as_u64()?,
        loss_scale: match &saved["loss_scale"] {
            Value::Null => None,
            pair => Some((pair.get(0)?.as_str()?.parse().ok()?, pair.get(1)?.as_u64()?)),
        },
        updates: saved["updates"].as_array()?.iter().map(update).collect::<Option<_>>()?,
        tensors: content.names().filter(|name| name.starts_with(PREFIX)).filter_map(tensor).collect(),
    })
}

/// All parameters, by name.
fn weights(store: &ParamStore) -> Result<Vec<Item>> {
    let device = store.device();
    store.settled()?;
    let layout = store.layout()?;
    let mut arenas = vec![];
    for chunk in store.chunks(false)? {
        arenas.push(chunk.values.read(device, 0, chunk.values.elements)?);
    }
    let item = |place: &crate::params::Placed| Item {
        name: place.name.to_string(),
        shape: place.shape,
        values: arenas[place.chunk][place.offset..place.offset + place.shape.elements()].to_vec(),
    };
    let mut items: Vec<Item> = layout.iter().map(item).collect();
    for (name, state) in store.states() {
        let value = state.get().to_array()?;
        items.push(Item { name: name.to_string(), shape: value.shape, values: value.data });
    }
    Ok(items)
}

/// What a file brings: values of each parameter, and the values of the states.
struct Values {
    parameters: Vec<Vec<f64>>,
    states: Vec<(State, Array)>,
}

/// The values in a file for each parameter and state, if it has exactly those.
fn matching(store: &ParamStore, content: &Content) -> Result<Values> {
    let layout = store.layout()?;
    let parameters = layout.iter().map(|place| content.tensor(&place.name, &place.shape)).collect::<Result<_>>()?;
    let names = store.states();
    let mut states = vec![];
    for (name, state) in &names {
        let shape = *state.get().dims();
        let data = content.tensor(name, &shape)?;
        states.push((state.clone(), Array { shape, dtype: DType::F32, data }));
    }
    let values = Values { parameters, states };
    let known =
        |name: &str| layout.iter().any(|place| *place.name == *name) || names.iter().any(|(other, _)| **other == *name);
    match content.names().find(|name| !name.starts_with(PREFIX) && !known(name)) {
        Some(name) => Err(content.refuse(format!("it has `{name}`, which the model has not"), SAME_MODEL)),
        None => Ok(values),
    }
}

fn overwrite(store: &ParamStore, values: &Values) -> Result<()> {
    let writes: Vec<(usize, &[f64])> = values.parameters.iter().map(Vec::as_slice).enumerate().collect();
    store.overwrite(&writes)?;
    for (state, array) in &values.states {
        state.set(store.device().array(array));
    }
    Ok(())
}
