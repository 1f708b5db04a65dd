//! What the header of a checkpoint says: its parts, and which tensors are whose. Files of version 1 are read as if they
//! were of the present one.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use serde_json::{Map, Value, json};

use super::names::{METADATA, MODEL, OPTIMIZER, POSITION, STORE, TRAIN, VALUE};
use crate::error::Result;
use crate::train::json;
use crate::train::safetensors::Content;

/// Key of a checkpoint's metadata in a file.
pub(super) const KEY: &str = "kiln";
const VERSION: u64 = 2;
/// Parts that files of version 1 may have.
const FIRST: [&str; 6] = ["version", "optimizer", "draws", "position", "kernels", "metadata"];
const OTHER_VERSION: &str = "load it with the version that saved it";

/// The parts of a file by their keys, `kind/name`.
#[derive(Debug, Default)]
pub(super) struct Index {
    states: BTreeMap<String, Value>,
    owners: Owners,
}

/// Which tensors are whose.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// By what stands before the names of its tensors: the key of a part. None begins with another.
    prefixes: BTreeMap<String, String>,
    /// The store whose names have nothing before them.
    plain: Option<String>,
}

/// The key of a part.
pub(super) fn key(kind: &str, name: &str) -> String {
    format!("{kind}/{name}")
}

/// How errors call a part of this key.
pub(super) fn label(key: &str) -> String {
    let (kind, name) = key.split_once('/').unwrap_or(("part", key));
    format!("{kind} `{name}`")
}

/// How errors call several.
pub(super) fn labels<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<String> = keys.into_iter().map(label).collect();
    if all.is_empty() { "nothing".into() } else { all.join(", ") }
}

/// True for what can be the kind or the name of a part.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

impl Owners {
    /// The owners of tensors in a file of these parts: the weights of an only store keep their names.
    pub fn of<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Owners {
        let mut stores = keys.clone().filter(|key| key.strip_prefix(STORE).is_some_and(|rest| rest.starts_with('/')));
        let plain = stores.next().filter(|_| stores.next().is_none()).map(String::from);
        let prefixes = keys.filter(|key| Some(*key) != plain.as_deref()).map(|key| (format!("{key}/"), key.into()));
        Owners { prefixes: prefixes.collect(), plain }
    }

    /// The part that a tensor of this name belongs to.
    pub fn owner(&self, tensor: &str) -> Option<&str> {
        // None of the prefixes begins with another, so the last one that is not behind the name is the only one to fit.
        let (prefix, key) = self.prefixes.range::<str, _>((Unbounded, Included(tensor))).next_back().unzip();
        let fits = prefix.is_some_and(|prefix| tensor.starts_with(prefix.as_str()));
        key.filter(|_| fits).or(self.plain.as_ref()).map(String::as_str)
    }

    /// What stands before the names of a part's tensors.
    pub fn prefix(&self, key: &str) -> &str {
        let prefix = self.prefixes.iter().find(|(_, owner)| *owner == key);
        prefix.map_or("", |(prefix, _)| prefix)
    }
}

/// What is written of these parts.
pub(super) fn text(states: BTreeMap<String, Value>) -> String {
    json!({ "version": VERSION, "parts": Map::from_iter(states) }).to_string()
}

impl Index {
    /// The parts of a file, which must be a checkpoint.
    pub fn of(content: &Content) -> Result<Index> {
        let text = content.metadata.get(KEY);
        let text = text.ok_or_else(|| content.refuse("it holds weights, not a checkpoint", "use ParamStore::load"))?;
        let damaged = |what: String| content.refuse(format!("its metadata: {what}"), "take another copy of the file");
        let parsed = json::parse(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        let Value::Object(parsed) = parsed else { return Err(damaged("they are no object".into())) };
        let version = parsed.get("version").and_then(Value::as_u64);
        let known: &[&str] = match version {
            Some(1) => &FIRST,
            Some(VERSION) => &["version", "parts"],
            _ => {
                let version = parsed.get("version").unwrap_or(&Value::Null);
                let what = format!("its version is {version}, where 1 and {VERSION} are known");
                return Err(content.refuse(what, OTHER_VERSION));
            }
        };
        if let Some(name) = parsed.keys().find(|name| !known.contains(&name.as_str())) {
            let what = format!("it has a part `{name}` that this version of Kiln does not know");
            return Err(content.refuse(what, OTHER_VERSION));
        }
        let index = if version == Some(1) { Index::of_first(parsed) } else { Index::of_present(parsed) };
        let index = index.map_err(damaged)?;
        match content.names().find(|(name, _)| index.owners.owner(name).is_none()) {
            Some((name, _)) => {
                let what = format!("it has `{name}`, which belongs to none of its parts: {}", labels(index.keys()));
                Err(content.refuse(what, "take another copy of the file"))
            }
            None => Ok(index),
        }
    }

    fn of_present(mut parsed: Map<String, Value>) -> Result<Index, String> {
        let Some(Value::Object(parts)) = parsed.remove("parts") else { return Err("they have no parts".into()) };
        let is_key = |key: &String| key.split_once('/').is_some_and(|(kind, name)| is_name(kind) && is_name(name));
        if let Some(key) = parts.keys().find(|key| !is_key(key)) {
            return Err(format!("`{key}` is no kind and name of a part"));
        }
        let states = BTreeMap::from_iter(parts);
        let owners = Owners::of(states.keys().map(String::as_str));
        Ok(Index { states, owners })
    }

    /// One store, one optimizer, one position and what the program added.
    fn of_first(mut parsed: Map<String, Value>) -> Result<Index, String> {
        let mut part = |name: &str| parsed.remove(name).unwrap_or_default();
        let mut index = Index::default();
        let mut add = |kind: &str, name: &str, state: Value| index.states.insert(key(kind, name), state);
        add(STORE, MODEL, json!({ "draws": part("draws"), "kernels": part("kernels") }));
        index.owners.plain = Some(key(STORE, MODEL));
        let (optimizer, position, metadata) = (part("optimizer"), part("position"), part("metadata"));
        if !optimizer.is_null() {
            add(OPTIMIZER, MODEL, optimizer);
            index.owners.prefixes.insert("optimizer/".into(), key(OPTIMIZER, MODEL));
        }
        if !position.is_null() {
            add(POSITION, TRAIN, position);
        }
        match metadata {
            Value::Object(map) if map.is_empty() => {}
            Value::Null => {}
            Value::Object(_) => drop(add(VALUE, METADATA, metadata)),
            _ => return Err("the part `metadata` is missing or damaged".into()),
        }
        Ok(index)
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.states.keys().map(String::as_str)
    }

    /// A part's key, as it is kept here, and what was saved besides its tensors.
    pub fn part(&self, key: &str) -> Option<(&str, &Value)> {
        self.states.get_key_value(key).map(|(key, state)| (key.as_str(), state))
    }

    pub fn owners(&self) -> &Owners {
        &self.owners
    }
}
