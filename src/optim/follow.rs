//! What goes along with the steps of an optimizer: averages of its weights.

use std::sync::Arc;

use crate::arena::Arena;
use crate::engine::ArenaKernel;
use crate::error::Result;
use crate::kernel::Capabilities;
use crate::params::ParamStore;

/// Follows the weights of a store, in the same submission as the update, and not where that is skipped.
pub(crate) trait Follower: Send + Sync {
    /// Makes the arenas that are missing, for steps of this store.
    fn prepare(&self, store: &ParamStore) -> Result<()>;
    /// A word that changes whenever its kernels do.
    fn key(&self) -> u64;
    /// Host numbers of a step.
    fn numbers(&self) -> [f64; 4];
    /// Its kernels, whose host numbers begin at `word`: they do nothing where `status[0].z` is not 0.
    fn kernels(&self, word: usize, status: &Arc<Arena>, capabilities: &Capabilities) -> Result<Vec<ArenaKernel>>;
    /// The same on the reference's arenas, after an update that was done.
    fn reference(&self) -> Result<()>;
}
