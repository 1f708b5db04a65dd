//! Averages of weights as files.

use std::panic::Location;
use std::path::Path;

use super::checkpoint::save_weights;
use crate::error::Result;
use crate::optim::Average;
use crate::transfer::Place;

impl Average {
    /// Saves the average as [`ParamStore::save`](crate::ParamStore::save) does the weights, and states as they are. No
    /// recorded tensor is concerned. Waits for the device.
    ///
    /// # Errors
    /// As [`ParamStore::save`](crate::ParamStore::save), and [`Error::Value`](crate::Error::Value) for settings that cannot be
    /// used or while another average is in the parameters' place.
    #[track_caller]
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let store = self.store();
        let _gate = store.state().enter();
        if self.is_in_place() {
            return store.save(path);
        }
        store.state().check_own("save", Location::caller())?;
        let (chunks, averages) = (store.chunks(false)?, self.arenas()?);
        save_weights(store, path.as_ref(), &[], |item| {
            if let Place::Arena(arena, _) = &mut item.place
                && let Some(own) = chunks.iter().position(|chunk| chunk.values.id == arena.id)
            {
                *arena = averages[own].clone();
            }
            Ok(true)
        })
    }
}
