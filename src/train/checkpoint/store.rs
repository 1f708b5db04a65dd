//! A store as a part, and files of its weights alone.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::index::{Index, KEY, labels};
use super::kinds::{entry, object, pair};
use super::names::STORE;
use super::part::{Commit, Part, PartReader, PartWriter};
use crate::dtype::DType;
use crate::error::Result;
use crate::packed::{Demand, Packed};
use crate::params::{ParamStore, Placed};
use crate::state::State;
use crate::tensor::Tensor;
use crate::train::safetensors::{self, Content, Item, Target};
use crate::transfer::{self, Place};
use crate::wait;

impl ParamStore {
    /// Saves the weights: a file that PyTorch's safetensors reads. Waits for the device.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) of a step that has just finished,
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) for a weight that is not finite, or
    /// [`Error::Io`](crate::Error::Io); an old file is then still whole.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        // Other threads update before it or after it.
        let _gate = self.state().enter();
        let saved = save_weights(self, Target::File(path.as_ref()), &[], |_| Ok(true));
        wait::instead("ParamStore::save", "ParamStore::save_bytes_async", saved)
    }

    /// The bytes of the file that [`ParamStore::save`] would write.
    ///
    /// # Errors
    /// As [`ParamStore::save`].
    pub fn save_bytes(&self) -> Result<Vec<u8>> {
        let _gate = self.state().enter();
        let mut bytes = vec![];
        let saved = save_weights(self, Target::Memory(&mut bytes), &[], |_| Ok(true));
        wait::instead("ParamStore::save_bytes", "ParamStore::save_bytes_async", saved)?;
        Ok(bytes)
    }

    /// [`ParamStore::save_bytes`] without blocking the thread.
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let device = Device::cpu();
    /// let (params, twin) = (ParamStore::new(&device, 1), ParamStore::new(&device, 2));
    /// let [weight, other] = [&params, &twin].map(|store| store.root().param("weight", &[2], Init::Ones));
    /// weight.set(&[1.0, 2.0])?;
    /// let bytes = pollster::block_on(params.save_bytes_async())?;
    /// twin.load_bytes(&bytes)?;
    /// assert_eq!(other.values()?, [1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`ParamStore::save`], and [`Error::Data`](crate::Error::Data) if steps go on meanwhile.
    pub fn save_bytes_async(&self) -> impl Future<Output = Result<Vec<u8>>> + use<> {
        let store = self.clone();
        async move { wait::consistent(|| store.state().version(), || store.save_bytes()).await }
    }

    /// [`ParamStore::load`] for a file that is in memory. Waits for nothing.
    ///
    /// # Errors
    /// As [`ParamStore::load`].
    pub fn load_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.load_content(&safetensors::read_bytes(bytes)?)
    }

    /// Loads weights that [`ParamStore::save`] or PyTorch has saved, or those of a checkpoint's only store. Tensors
    /// recorded before keep the values from before. Of a file that is no checkpoint, integer tensors that the model has
    /// not are passed over: PyTorch keeps counts and tables there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::File`](crate::Error::File) for a damaged file,
    /// [`Error::Checkpoint`](crate::Error::Checkpoint) if names, shapes or dtypes are not the model's, a weight is not
    /// finite or there are several stores, or what computing held tensors met; nothing has changed then.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<()> {
        self.load_content(&safetensors::read(path.as_ref())?)
    }

    fn load_content(&self, content: &Content) -> Result<()> {
        if !content.metadata.contains_key(KEY) {
            let integers: Vec<&str> = content.names().filter(|(_, is_float)| !is_float).map(|(name, _)| name).collect();
            let passed_over = |name: &str| integers.binary_search(&name).is_ok();
            return load_weights(self, &PartReader::of_weights(content), passed_over);
        }
        let index = Index::of(content)?;
        let own = only_store(content, &index)?;
        load_weights(self, &own, |_| false)
    }
}

/// Writes a file of weights with these metadata: the items for which `take` is true, as it leaves them.
pub(in crate::train) fn save_weights(
    store: &ParamStore,
    to: Target<'_>,
    metadata: &[(&str, &str)],
    mut take: impl FnMut(&mut Item) -> Result<bool>,
) -> Result<()> {
    let path = to.path().to_path_buf();
    let mut weights = PartWriter::new(&path, String::new(), "");
    write_weights(store, &mut weights)?;
    let mut items = vec![];
    for mut item in weights.items {
        item.exact = false;
        if take(&mut item)? {
            items.push(item);
        }
    }
    let mut texts = vec![("format", "pt".to_string())];
    texts.extend(metadata.iter().map(|&(key, text)| (key, text.to_string())));
    safetensors::write(to, items, &texts)
}

/// The one store of a checkpoint.
pub(super) fn only_store<'a>(content: &'a Content, index: &'a Index) -> Result<PartReader<'a>> {
    let stores: Vec<&str> =
        index.keys().filter(|key| key.split_once('/').is_some_and(|(kind, _)| kind == STORE)).collect();
    match stores[..] {
        [key] => PartReader::new(content, index, key),
        _ => None,
    }
    .ok_or_else(|| {
        let what = format!("it has not one store but {}", labels(stores));
        content.refuse(what, "load the one that you mean with Checkpoint::open")
    })
}

fn load_weights(store: &ParamStore, from: &PartReader<'_>, passed_over: impl Fn(&str) -> bool) -> Result<()> {
    let _gate = store.state().enter();
    let commit = read_weights(store, from)?;
    from.all_taken(passed_over)?;
    commit()
}

/// Parameters and states by their names, the counter of draws, and the kernels that tuning chose on its device.
impl Part for ParamStore {
    fn kind(&self) -> &str {
        STORE
    }

    fn changes_with(&self) -> Option<&ParamStore> {
        Some(self)
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        write_weights(self, to)?;
        let (seed, draw) = self.draws().position();
        let kernels = self.device().kernel_choices();
        to.state(json!({
            "draws": [seed, draw],
            "kernels": kernels.map(|(owner, choices)| json!({ "owner": owner, "choices": choices })),
        }));
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        read_store(self, from)
    }
}

/// [`Part::read`] of a store, of which a handle serves.
pub(super) fn read_store<'a>(store: &ParamStore, from: &PartReader<'a>) -> Result<Commit<'a>> {
    let saved = object(from, &["draws", "kernels"])?;
    let draws = entry(from, saved, "draws", pair)?;
    let kernels = entry(from, saved, "kernels", |kernels| match kernels {
        Value::Null => Some(None),
        kernels => Some(Some(choices(kernels)?)),
    })?;
    let weights = read_weights(store, from)?;
    let store = store.clone();
    Ok(Box::new(move || {
        weights()?;
        store.draws().seek(draws);
        if let Some((owner, choices)) = &kernels {
            store.device().adopt_kernel_choices(owner, choices);
        }
        Ok(())
    }))
}

/// Whose the kernels are, and what was chosen for which class of shapes.
fn choices(kernels: &Value) -> Option<(String, BTreeMap<String, String>)> {
    let text = |(class, choice): (&String, &Value)| Some((class.clone(), choice.as_str()?.to_string()));
    let choices = kernels["choices"].as_object()?.iter().map(text).collect::<Option<_>>()?;
    Some((kernels["owner"].as_str()?.to_string(), choices))
}

/// All parameters and states, each arena in order.
fn write_weights(store: &ParamStore, to: &mut PartWriter<'_>) -> Result<()> {
    store.settled()?;
    let (mut layout, chunks) = (store.layout()?, store.chunks(false)?);
    layout.sort_by_key(|place| (place.chunk, place.offset));
    for place in layout {
        let values = Place::Arena(chunks[place.chunk].values.clone(), place.offset);
        to.place(&*place.name, DType::F32, place.shape, values, Demand::Finite);
    }
    store.states().into_iter().try_for_each(|(name, state)| to.tensor(&*name, &state.get()))
}

/// Checks that a file has values for each parameter and state.
fn read_weights<'a>(store: &ParamStore, from: &PartReader<'a>) -> Result<Commit<'a>> {
    let (device, exact) = (store.device(), store.device().is_exact());
    let parameter = |place: &Placed| from.numbers(&place.name, &place.shape, DType::F32, exact, Demand::Finite);
    let numbered = |(number, place)| Ok((number, parameter(place)?));
    let parameters: Vec<(usize, Packed<'a>)> =
        store.layout()?.iter().enumerate().map(numbered).collect::<Result<_>>()?;
    let mut states: Vec<(State, Tensor)> = vec![];
    for (name, state) in store.states() {
        let meta = state.meta()?;
        let numbers = from.numbers(&name, &meta.shape, meta.dtype, exact, Demand::NotNan)?;
        states.push((state, transfer::store(device, meta, &numbers)?));
    }
    // Nothing of the store can be in the way once what is held of it has been computed.
    store.settle_held()?;
    let store = store.clone();
    Ok(Box::new(move || {
        store.overwrite_packed(&parameters)?;
        states.into_iter().for_each(|(state, value)| state.set(value));
        Ok(())
    }))
}
