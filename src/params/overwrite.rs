//! Overwriting parameters: what is held and was recorded before keeps its value.

use std::panic::Location;

use super::{BLOCK, ParamStore};
use crate::error::Result;
use crate::init::Init;
use crate::packed::Packed;
use crate::transfer::Writer;

impl ParamStore {
    /// Gives parameters other initial values, which fit: at the first use if that is yet to come, else now.
    pub(super) fn redraw(&self, inits: &[(usize, Init)]) -> Result<()> {
        let mut contents = self.lock();
        inits.iter().for_each(|&(number, init)| contents.entries[number].init = init);
        let placed = contents.placed;
        drop(contents);
        let present: Vec<usize> = inits.iter().map(|&(number, _)| number).filter(|&number| number < placed).collect();
        if present.is_empty() {
            return Ok(());
        }
        // One after the other: all of a large model at once would need room for it.
        let values = |number: usize| Ok((number, self.lock().entries[number].drawn(self.seed())?));
        self.overwrite(present.into_iter().map(values))
    }

    /// Overwrites parameters: what is held and was recorded before keeps its value.
    #[track_caller]
    pub(crate) fn overwrite<V: AsRef<[f64]>>(
        &self,
        values: impl IntoIterator<Item = Result<(usize, V)>>,
    ) -> Result<()> {
        let _gate = self.state().enter();
        self.return_weights()?;
        self.state().check_own("set", Location::caller())?;
        self.state().take_failure()?;
        let layout = self.layout()?;
        let chunks = self.chunks(false)?;
        self.settle_held()?;
        for values in values {
            let (number, values) = values?;
            let place = &layout[number];
            chunks[place.chunk].values.write(place.offset, values.as_ref())?;
        }
        self.state().advance();
        Ok(())
    }

    /// Overwrites parameters with bytes of a file as `read` hands them on: the parameter's number in [`ParamStore::layout`], its first
    /// element that is written, what the bytes are.
    #[track_caller]
    #[cfg_attr(not(feature = "onnx"), allow(dead_code))]
    pub(crate) fn overwrite_bytes(
        &self,
        read: impl FnOnce(&mut dyn FnMut(usize, usize, safetensors::Dtype, &[u8]) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let _gate = self.state().enter();
        self.return_weights()?;
        self.state().check_own("load", Location::caller())?;
        let layout = self.layout()?;
        let chunks = self.chunks(false)?;
        self.settle_held()?;
        let mut writer = Writer::new(self.device(), BLOCK);
        read(&mut |number, first, dtype, bytes| match layout.get(number) {
            Some(place) => writer.put(&chunks[place.chunk].values, place.offset + first, &Packed::new(dtype, bytes)),
            None => Ok(()),
        })?;
        writer.finish()?;
        self.state().advance();
        Ok(())
    }

    /// Overwrites parameters with these, by their numbers in [`ParamStore::layout`].
    #[track_caller]
    pub(crate) fn overwrite_packed(&self, values: &[(usize, Packed<'_>)]) -> Result<()> {
        let _gate = self.state().enter();
        self.return_weights()?;
        self.state().check_own("load", Location::caller())?;
        let layout = self.layout()?;
        let chunks = self.chunks(false)?;
        self.settle_held()?;
        let mut order: Vec<_> = values.iter().map(|(number, values)| (&layout[*number], values)).collect();
        order.sort_by_key(|(place, _)| (place.chunk, place.offset));
        let mut writer = Writer::new(self.device(), BLOCK);
        for (place, values) in order {
            writer.put(&chunks[place.chunk].values, place.offset, values)?;
        }
        writer.finish()?;
        self.state().advance();
        Ok(())
    }
}
