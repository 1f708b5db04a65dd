//! The start of a run of several ranks: all have the parameters and states of rank 0.

use std::sync::Arc;

use crate::array::Array;
use crate::distributed::World;
use crate::engine;
use crate::error::{Error, Result};
use crate::host::HostData;
use crate::layout::Meta;
use crate::params::{ParamStore, Placed};
use crate::tensor::Tensor;

/// Values of states, or none, for [`decode`].
pub(super) fn encode(values: &[Option<Tensor>]) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    for value in values {
        let Some(value) = value else {
            bytes.extend(u64::MAX.to_le_bytes());
            continue;
        };
        let data = engine::computed(value.node())?.to_f64();
        bytes.extend((data.len() as u64).to_le_bytes());
        data.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    }
    Ok(bytes)
}

/// The next value, of the shape and dtype of `like`.
pub(super) fn decode(bytes: &mut &[u8], like: &Tensor) -> Result<Option<Tensor>> {
    let cut = || Error::Rank { rank: 0, what: "it has other states".into(), next: "run the same model on all ranks" };
    let mut take = |length: usize| {
        let (own, rest) = bytes.split_at_checked(length).ok_or_else(cut)?;
        *bytes = rest;
        Ok::<_, Error>(own)
    };
    let length = take(8)?.try_into().map(u64::from_le_bytes).map_err(|_| cut())?;
    if length == u64::MAX {
        return Ok(None);
    }
    let Meta { shape, dtype } = like.meta();
    if length != shape.elements() as u64 {
        return Err(cut());
    }
    let data: Vec<f64> = take(8 * shape.elements())?.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect();
    Ok(Some(like.device().array(&Array { shape, dtype, data })))
}

impl ParamStore {
    /// Gives all ranks the parameters and states of rank 0, and makes sure that they have the same names and shapes.
    ///
    /// # Errors
    /// [`Error::Rank`] for a rank with another model, or one that does not answer; what reading or writing them met.
    pub fn broadcast(&self, world: &World) -> Result<()> {
        if world.is_alone() {
            return Ok(());
        }
        let result = self.broadcast_to(world);
        if let Err(error) = &result {
            world.fail(error);
        }
        result
    }

    fn broadcast_to(&self, world: &World) -> Result<()> {
        let layout = self.layout()?;
        let states = self.states();
        let mut settings = vec![("version of Kiln".to_string(), env!("CARGO_PKG_VERSION").to_string())];
        for Placed { name, shape, .. } in &layout {
            settings.push(("parameter".into(), format!("{name} {shape}")));
        }
        for (name, state) in &states {
            let Meta { shape, dtype } = state.meta()?;
            settings.push(("state".into(), format!("{name} {shape} {dtype}")));
        }
        world.agree(&settings)?;
        let mut bytes = vec![];
        if world.is_first() {
            for param in self.parameters() {
                param.values()?.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
            }
            bytes.extend(encode(&states.iter().map(|(_, state)| Some(evaluated(state.get()))).collect::<Vec<_>>())?);
            world.broadcast(bytes)?;
            return Ok(());
        }
        let bytes = world.broadcast(bytes)?;
        let mut rest = &bytes[..];
        let cut = || Error::Rank { rank: 0, what: "its parameters are cut off".into(), next: "look at the network" };
        let mut values = vec![];
        for (number, place) in layout.iter().enumerate() {
            let (own, others) = rest.split_at_checked(8 * place.shape.elements()).ok_or_else(cut)?;
            rest = others;
            values.push(Ok((number, own.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect::<Vec<f64>>())));
        }
        self.overwrite(values)?;
        for (_, state) in &states {
            if let Some(value) = decode(&mut rest, &state.get())? {
                state.set(value);
            }
        }
        Ok(())
    }

    /// For each parameter a number that its bits decide.
    pub(super) fn hashes(&self) -> Result<Vec<(Arc<str>, u64)>> {
        let mut hashes = vec![];
        let chunks = self.chunks(false)?;
        let mut read: Vec<HostData> = vec![];
        for chunk in &chunks {
            read.push(chunk.values.read_as_stored(0, chunk.values.elements)?);
        }
        for place in self.layout()? {
            let own = place.offset..place.offset + place.shape.elements();
            let mix = |hash: u64, bits: u64| (hash ^ bits).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
            let data = read.get(place.chunk);
            let hash = own.filter_map(|i| data.map(|data| data.get(i).to_bits())).fold(0, mix);
            hashes.push((place.name, hash));
        }
        Ok(hashes)
    }
}

/// The tensor, computed; what goes wrong is met by whoever reads it.
fn evaluated(value: Tensor) -> Tensor {
    let _ = value.device().clone().eval(&[&value]);
    value
}
