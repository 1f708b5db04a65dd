//! Saving and resuming, in safetensors files.
//!
//! [`ParamStore::save`] writes the weights alone, in PyTorch's names and layouts and in F32, so that files go both ways.
//! [`Checkpoint::save`] adds what a resumed run needs to end in the same bits: the optimizer's state and step count, the
//! counter of random draws, the loader's position and, on a GPU, the kernels that tuning chose, which a run resumed on the
//! same adapter and driver keeps; F32 from a GPU, F64 from the reference. Each [`State`] keeps its dtype.
//!
//! **Replacing a file.** The new content goes to a file of another name in the same folder, is brought to the disk and then
//! takes the old one's place: whoever reads meanwhile finds a whole file, also where several programs save to one path, and
//! whoever stops the writer leaves the old file whole. What a killed writer leaves (`.kiln-*.tmp`) the next save to that path
//! removes, unless a living one still holds it. A path that is a symbolic link is followed: the file that it leads to is
//! replaced, and the link stays. Permissions stay those of the file that is replaced.
//!
//! **What is refused.** A file is taken as a whole or not at all: a name that is missing, unknown or there twice, bytes that
//! belong to no tensor, a weight or a moment that is not finite, a state with a NaN, a number that the model's dtype cannot
//! hold are an error that says which, and nothing has changed then. What could not be loaded is not saved either: the old file
//! stays.
//!
//! **Memory.** Saving takes a few megabytes of the host whatever the size of the model, loading once the size of the file.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::json;
use super::safetensors::{self, Content, Item};
use crate::data::Position;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::{InPlace, Optimizer, OptimizerState, StateTensors};
use crate::packed::{Demand, Packed};
use crate::params::ParamStore;
use crate::state::State;
use crate::tensor::Tensor;
use crate::transfer::{self, Place};

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
    /// [`Error::NonFinite`] of a step that has just finished, [`Error::Checkpoint`] for a weight that is not finite, or
    /// [`Error::Io`]; an old file is then still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        // Other threads update before it or after it.
        let _gate = self.state().enter();
        safetensors::write(path.as_ref(), self.device(), weights(self)?, false, ("format", "pt".into()))
    }

    /// Loads weights that [`ParamStore::save`], [`Checkpoint::save`] or PyTorch has saved. Tensors recorded before keep
    /// the values from before. Of a file that is no checkpoint, integer tensors that the model has not are passed over:
    /// PyTorch keeps counts and tables there.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] for a damaged file, [`Error::Checkpoint`] if names, shapes or dtypes are not the
    /// model's or a weight is not finite, or what computing held tensors met; nothing has changed then.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        let content = safetensors::read(path.as_ref())?;
        overwrite(self, &matching(self, &content)?, || Ok(()))
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
    /// [`Error::NonFinite`] of a step that has just finished, [`Error::Value`] between `accumulate` and `step`,
    /// [`Error::Checkpoint`] for what could not be loaded again, or [`Error::Io`]; an old file is then still whole.
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
        let _gate = store.state().enter();
        let refuse = |what: String, next| Err(Error::Checkpoint { path: path.into(), what, next });
        let mut items = weights(store)?;
        if let Some(item) = items.iter().find(|item| item.name.starts_with(PREFIX)) {
            let what = format!("the parameter name `{}` is taken for the optimizer's state", item.name);
            return refuse(what, "rename the parameter");
        }
        let state = optimizer.map(|optimizer| optimizer.state_in_place()).transpose()?;
        let (state, tensors) = state.map_or((None, vec![]), |saved| (Some(saved.state), saved.tensors));
        let lrs = state.iter().flat_map(|state| std::iter::once(&state.lr).chain(&state.more_lrs));
        if let Some(lr) = lrs.copied().find(|lr| !(lr.is_finite() && *lr >= 0.0)) {
            return refuse(format!("the learning rate is {lr}"), "set one that is finite and not negative");
        }
        let (seed, draw) = store.draws().position();
        let text = json!({
            "version": VERSION,
            "optimizer": state.map(written),
            "draws": [seed, draw],
            "position": position.map(|position| [position.epoch, position.batch]),
            "kernels": store.device().kernel_choices().map(|(owner, choices)| json!({"owner": owner, "choices": choices})),
            "metadata": metadata,
        })
        .to_string();
        if let Err(error) = json::parse(text.as_bytes()) {
            return refuse(format!("its metadata could not be read again: {error}"), "nest them less deep");
        }
        let item = |InPlace { name, shape, place, demand }| Item {
            name: format!("{PREFIX}{name}"),
            dtype: DType::F32,
            shape,
            place,
            demand,
        };
        items.extend(tensors.into_iter().map(item));
        safetensors::write(path, store.device(), items, store.device().is_exact(), (KEY, text))
    }

    /// Loads a checkpoint into a model and, if one is given, its optimizer; the store's random draws go on where they
    /// were. Seek the loader to [`Checkpoint::position`].
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::File`] for a damaged file, [`Error::Checkpoint`] if it is not of this model and optimizer, or
    /// holds what no run can have left there; nothing has changed then.
    pub fn load(
        path: impl AsRef<Path>,
        store: &ParamStore,
        optimizer: Option<&mut dyn Optimizer>,
    ) -> Result<Checkpoint> {
        let content = safetensors::read(path.as_ref())?;
        let values = matching(store, &content)?;
        let parts = Parts::of(&content)?;
        let state = match &optimizer {
            Some(_) if parts.optimizer.is_null() => {
                return Err(content.refuse("it was saved without an optimizer", SAME_RUN));
            }
            Some(_) => Some(parts.state().map_err(|what| damaged(&content, what))?),
            None => None,
        };
        overwrite(store, &values, || {
            let (Some(optimizer), Some(state)) = (optimizer, &state) else { return Ok(()) };
            optimizer.set_state_packed(state, &tensors(&content)?).map_err(|error| match error {
                Error::Value { what, .. } => content.refuse(what, SAME_RUN),
                other => other,
            })
        })?;
        store.draws().seek(parts.draws);
        if let Some((owner, choices)) = &parts.kernels {
            store.device().adopt_kernel_choices(owner, choices);
        }
        let steps = parts.optimizer["steps"].as_u64().unwrap_or(0);
        Ok(Checkpoint { steps, position: parts.position, metadata: parts.metadata })
    }
}

/// An optimizer's state without its tensors. Numbers are texts, which Rust reads back to the same bits.
fn written(state: OptimizerState) -> Value {
    let mut value = json!({
        "rule": state.rule,
        "lr": state.lr.to_string(),
        "steps": state.steps,
        "updates": state.updates,
        "loss_scale": state.loss_scale.map(|(scale, good)| (scale.to_string(), good)),
    });
    let texts = |numbers: &[f64]| -> Vec<String> { numbers.iter().map(f64::to_string).collect() };
    if !state.more_lrs.is_empty() {
        value["more_lrs"] = json!(texts(&state.more_lrs));
    }
    if !state.kept.is_empty() {
        value["kept"] = state.kept.iter().map(|(name, own)| json!([name, texts(own)])).collect();
    }
    value
}

/// What the metadata of a checkpoint say.
struct Parts {
    optimizer: Value,
    draws: (u64, u64),
    position: Option<Position>,
    kernels: Option<(String, BTreeMap<String, String>)>,
    metadata: Map<String, Value>,
}

fn damaged(content: &Content, what: impl std::fmt::Display) -> Error {
    content.refuse(format!("its metadata: {what}"), "take another copy of the file")
}

fn pair(value: &Value) -> Option<(u64, u64)> {
    match &value.as_array()?[..] {
        [first, second] => Some((first.as_u64()?, second.as_u64()?)),
        _ => None,
    }
}

/// The name of a part that is not one of `known`.
fn unknown<'a>(map: &'a Map<String, Value>, known: &[&str]) -> Option<&'a String> {
    map.keys().find(|name| !known.contains(&name.as_str()))
}

impl Parts {
    fn of(content: &Content) -> Result<Parts> {
        let text = content.metadata.get(KEY);
        let text = text.ok_or_else(|| content.refuse("it holds weights, not a checkpoint", "use ParamStore::load"))?;
        let parsed = json::parse(text.as_bytes()).map_err(|error| damaged(content, error))?;
        let Value::Object(mut parsed) = parsed else { return Err(damaged(content, "it is no object")) };
        let version = parsed.get("version").cloned().unwrap_or_default();
        if version.as_u64() != Some(VERSION) {
            return Err(content.refuse(format!("its version is {version}, not {VERSION}"), SAME_RUN));
        }
        if let Some(name) = unknown(&parsed, &["version", "optimizer", "draws", "position", "kernels", "metadata"]) {
            let what = format!("it has a part `{name}` that this version of Kiln does not know");
            return Err(content.refuse(what, "load it with the version that saved it"));
        }
        let mut part = |name: &str| parsed.remove(name).unwrap_or_default();
        let missing = |name: &'static str| move || damaged(content, format!("the part `{name}` is missing or damaged"));
        let position = part("position");
        let kernels = part("kernels");
        let metadata = part("metadata");
        let choices = |kernels: &Value| {
            let text = |(class, choice): (&String, &Value)| Some((class.clone(), choice.as_str()?.to_string()));
            let choices = kernels["choices"].as_object()?.iter().map(text).collect::<Option<_>>()?;
            Some((kernels["owner"].as_str()?.to_string(), choices))
        };
        let optional = |value: &Value| !value.is_null();
        Ok(Parts {
            optimizer: part("optimizer"),
            draws: pair(&part("draws")).ok_or_else(missing("draws"))?,
            position: Some(position)
                .filter(optional)
                .map(|value| pair(&value).map(|(epoch, batch)| Position { epoch, batch }))
                .map(|position| position.ok_or_else(missing("position")))
                .transpose()?,
            kernels: Some(kernels)
                .filter(optional)
                .map(|kernels| choices(&kernels).ok_or_else(missing("kernels")))
                .transpose()?,
            metadata: match metadata {
                Value::Null => Map::new(),
                Value::Object(map) => map,
                _ => return Err(missing("metadata")()),
            },
        })
    }

    /// The optimizer's state without its tensors; `Err` with what is wrong with it.
    fn state(&self) -> Result<OptimizerState, String> {
        let saved = self.optimizer.as_object().ok_or("the optimizer's state is no object")?;
        if let Some(name) = unknown(saved, &["rule", "lr", "more_lrs", "steps", "updates", "kept", "loss_scale"]) {
            return Err(format!("the optimizer's state has a part `{name}` that this version of Kiln does not know"));
        }
        let missing = |name: &'static str| format!("the part `{name}` of the optimizer's state is missing or damaged");
        let part = |name: &str| saved.get(name).unwrap_or(&Value::Null);
        let update = |entry: &Value| match &entry.as_array()?[..] {
            [name, count] => Some((name.as_str()?.to_string(), count.as_u64()?)),
            _ => None,
        };
        let updates = || part("updates").as_array()?.iter().map(update).collect::<Option<_>>();
        let loss_scale = |pair: &Value| match &pair.as_array()?[..] {
            [scale, good] => Some((scale.as_str()?.parse().ok()?, good.as_u64()?)),
            _ => None,
        };
        let lr = || part("lr").as_str()?.parse().ok();
        let number = |text: &Value| text.as_str()?.parse::<f64>().ok();
        let numbers = |all: &Value| all.as_array()?.iter().map(number).collect::<Option<Vec<f64>>>();
        let kept = |entry: &Value| match &entry.as_array()?[..] {
            [name, own] => Some((name.as_str()?.to_string(), numbers(own)?.try_into().ok()?)),
            _ => None,
        };
        let all_kept = |all: &Value| all.as_array()?.iter().map(kept).collect::<Option<_>>();
        // Optimizers without them save none.
        let optional = |name: &'static str| Some(part(name)).filter(|value| !value.is_null());
        Ok(OptimizerState {
            rule: part("rule").as_str().ok_or_else(|| missing("rule"))?.into(),
            lr: lr().ok_or_else(|| missing("lr"))?,
            steps: part("steps").as_u64().ok_or_else(|| missing("steps"))?,
            loss_scale: match part("loss_scale") {
                Value::Null => None,
                pair => Some(loss_scale(pair).ok_or_else(|| missing("loss_scale"))?),
            },
            updates: updates().ok_or_else(|| missing("updates"))?,
            more_lrs: match optional("more_lrs") {
                Some(all) => numbers(all).ok_or_else(|| missing("more_lrs"))?,
                None => vec![],
            },
            kept: match optional("kept") {
                Some(all) => all_kept(all).ok_or_else(|| missing("kept"))?,
                None => vec![],
            },
            tensors: vec![],
        })
    }
}

/// The optimizer's tensors in a file.
fn tensors(content: &Content) -> Result<StateTensors<'_>> {
    let tensor = |(name, _)| {
        let own = str::strip_prefix(name, PREFIX)?;
        let found = content.any(name).ok_or_else(|| content.refuse(format!("`{name}` has an absurd shape"), SAME_RUN));
        Some(found.map(|found| (own, found)))
    };
    content.names().filter_map(tensor).collect()
}

/// All parameters and states, each arena in order.
fn weights(store: &ParamStore) -> Result<Vec<Item>> {
    store.settled()?;
    let (mut layout, chunks) = (store.layout()?, store.chunks(false)?);
    layout.sort_by_key(|place| (place.chunk, place.offset));
    let item = |place: &crate::params::Placed| Item {
        name: place.name.to_string(),
        dtype: DType::F32,
        shape: place.shape,
        place: Place::Arena(chunks[place.chunk].values.clone(), place.offset),
        demand: Demand::Finite,
    };
    let mut items: Vec<Item> = layout.iter().map(item).collect();
    for (name, state) in store.states() {
        let value = state.get();
        if let Some(error) = value.error() {
            return Err(error.clone());
        }
        let (shape, dtype) = (value.meta().shape, value.meta().dtype);
        items.push(Item { name: name.to_string(), dtype, shape, place: Place::Tensor(value), demand: Demand::NotNan });
    }
    Ok(items)
}

/// What a file brings: values of each parameter, and the values of the states.
struct Values<'a> {
    parameters: Vec<Packed<'a>>,
    states: Vec<(State, Packed<'a>)>,
}

/// The values in a file for each parameter and state, if it has exactly those.
fn matching<'a>(store: &ParamStore, content: &'a Content) -> Result<Values<'a>> {
    let (layout, states) = (store.layout()?, store.states());
    let exact = store.device().is_exact();
    let parameter =
        |place: &crate::params::Placed| content.tensor(&place.name, &place.shape, DType::F32, exact, Demand::Finite);
    let state = |(name, state): &(Arc<str>, State)| {
        let meta = state.meta()?;
        Ok((state.clone(), content.tensor(name, &meta.shape, meta.dtype, exact, Demand::NotNan)?))
    };
    let values = Values {
        parameters: layout.iter().map(parameter).collect::<Result<_>>()?,
        states: states.iter().map(state).collect::<Result<_>>()?,
    };
    let known: HashSet<&str> =
        layout.iter().map(|place| &*place.name).chain(states.iter().map(|(name, _)| &**name)).collect();
    let is_checkpoint = content.metadata.contains_key(KEY);
    let foreign = |&(name, is_float): &(&str, bool)| {
        let optimizer = is_checkpoint && name.starts_with(PREFIX);
        !known.contains(name) && !optimizer && (is_checkpoint || is_float)
    };
    match content.names().find(foreign) {
        Some((name, _)) => Err(content.refuse(format!("it has `{name}`, which the model has not"), SAME_MODEL)),
        None => Ok(values),
    }
}

/// Gives a store what a file brought; `between` runs once nothing of the store can fail any more, and nothing has changed
/// yet.
fn overwrite(store: &ParamStore, values: &Values<'_>, between: impl FnOnce() -> Result<()>) -> Result<()> {
    let device = store.device();
    let _gate = store.state().enter();
    let state =
        |(state, numbers): &(State, Packed<'_>)| Ok((state.clone(), transfer::store(device, state.meta()?, numbers)?));
    let states: Vec<(State, Tensor)> = values.states.iter().map(state).collect::<Result<_>>()?;
    store.settle_held()?;
    between()?;
    store.overwrite_all(&values.parameters)?;
    states.into_iter().for_each(|(state, value)| state.set(value));
    Ok(())
}
