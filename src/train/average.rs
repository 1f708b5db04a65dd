//! Averages of weights as files.

use std::panic::Location;
use std::path::Path;

use super::checkpoint::save_weights;
use super::safetensors::Target;
use crate::error::Result;
use crate::optim::Average;
use crate::transfer::Place;
use crate::wait;

impl Average {
    /// Saves the average as [`ParamStore::save`](crate::ParamStore::save) does the weights, and states as they are. No
    /// recorded tensor is concerned. Waits for the device.
    ///
    /// # Errors
    /// As [`ParamStore::save`](crate::ParamStore::save), and [`Error::Value`](crate::Error::Value) for settings that cannot be
    /// used or while another average is in the parameters' place.
    #[track_caller]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        wait::instead(
            "Average::save",
            "Average::save_bytes_async",
            self.write(Target::File(path.as_ref()), Location::caller()),
        )
    }

    /// The bytes of the file that [`Average::save`] would write, without blocking the thread.
    ///
    /// # Errors
    /// As [`Average::save`], and [`Error::Data`](crate::Error::Data) if steps go on meanwhile.
    #[track_caller]
    pub fn save_bytes_async(&self) -> impl Future<Output = Result<Vec<u8>>> + '_ {
        let at = Location::caller();
        let whole = move || {
            let mut bytes = vec![];
            self.write(Target::Memory(&mut bytes), at).map(|()| bytes)
        };
        wait::consistent(|| self.store().state().version(), whole)
    }

    fn write(&self, to: Target<'_>, at: &'static Location<'static>) -> Result<()> {
        let store = self.store();
        let _gate = store.state().enter();
        if self.is_in_place() {
            return save_weights(store, to, &[], |_| Ok(true));
        }
        store.state().check_own("save", at)?;
        let (chunks, averages) = (store.chunks(false)?, self.arenas()?);
        save_weights(store, to, &[], |item| {
            if let Place::Arena(arena, _) = &mut item.place
                && let Some(own) = chunks.iter().position(|chunk| chunk.values.id == arena.id)
            {
                *arena = averages[own].clone();
            }
            Ok(true)
        })
    }
}
