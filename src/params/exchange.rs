//! Other values in the parameters' place for a while, averages of weights above all: arenas change their contents on the
//! device, bit for bit, so that the weights are what they were once they are back.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::{Chunk, ParamStore};
use crate::arena::Arena;
use crate::device::Device;
use crate::engine::{self, ArenaBinding, ArenaKernel, Work};
use crate::error::Result;
use crate::kernel::{Capabilities, Kernel, Shader};
use crate::shader::params;
use crate::shaders::params::SWAP;

/// An arena of values, and the one that it changes contents with.
pub(super) type Pair = (Arc<Arena>, Arc<Arena>);

params! {
    /// Sizes of an exchange.
    struct Sizes {
        vectors,
    }
}

/// The weights of a store, while an average stands in their place. Dropping it puts them back.
///
/// It may be sent to another thread and held across an `await`. Meanwhile the parameters can be read, saved and
/// evaluated with, but not changed: steps, [`Param::set`](super::Param::set) and loading are errors. Tensors that were
/// recorded before an exchange, in either direction, keep the values from before it.
///
/// Where dropping it fails (the device is lost, or has no memory left to compute what somebody holds) the next step,
/// read or save of the store returns the error, and steps and exchanges try again before they do anything else.
#[must_use = "the weights are back as soon as it is dropped"]
pub struct Kept {
    store: ParamStore,
    /// Empty once the weights are back.
    pairs: Vec<Pair>,
}

impl Kept {
    /// Puts the weights back, as dropping it does.
    ///
    /// # Errors
    /// What computing held tensors or the exchange met; it is tried again as after a failed drop.
    pub fn put_back(mut self) -> Result<()> {
        self.restore()
    }

    fn restore(&mut self) -> Result<()> {
        let pairs = std::mem::take(&mut self.pairs);
        if pairs.is_empty() {
            return Ok(());
        }
        let _gate = self.store.state().enter();
        let result = put_back(&self.store, &pairs);
        if result.is_err() {
            self.store.lock().unreturned = pairs;
        }
        result
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            self.store.state().fail(error);
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept(weights of {} arenas)", self.pairs.len())
    }
}

impl ParamStore {
    /// Puts the contents of other arenas, one for each chunk, in the place of the parameters, for `op`, called at `at`, and
    /// `owner`. `others` gives them, and runs whatever fills them.
    ///
    /// # Errors
    /// `Err` if there is an exchange already, an earlier step's failure, or what filling the arenas or
    /// computing held tensors met; nothing has changed then.
    pub(crate) fn exchange(
        &self,
        (op, at): (&'static str, &'static Location<'static>),
        owner: usize,
        others: impl FnOnce(&[Chunk]) -> Result<Vec<Arc<Arena>>>,
    ) -> Result<Kept> {
        let _gate = self.state().enter();
        self.return_weights()?;
        self.state().check_own(op, at)?;
        self.state().take_failure()?;
        let chunks = self.chunks(false)?;
        let others = others(&chunks)?;
        let pairs: Vec<Pair> = chunks.iter().map(|chunk| chunk.values.clone()).zip(others).collect();
        self.settle_held()?;
        swap_all(self.device(), &pairs)?;
        self.state().set_exchanged(Some((owner, at)));
        self.state().advance();
        Ok(Kept { store: self.clone(), pairs })
    }

    /// Tries again to put weights back whose [`Kept`] could not.
    pub(crate) fn return_weights(&self) -> Result<()> {
        let _gate = self.state().enter();
        let pairs = std::mem::take(&mut self.lock().unreturned);
        if pairs.is_empty() {
            return Ok(());
        }
        let result = put_back(self, &pairs);
        if result.is_err() {
            self.lock().unreturned = pairs;
        }
        result
    }
}

/// Ends an exchange. The caller has entered the store.
fn put_back(store: &ParamStore, pairs: &[Pair]) -> Result<()> {
    store.settle_held()?;
    swap_all(store.device(), pairs)?;
    store.state().set_exchanged(None);
    store.state().advance();
    Ok(())
}

/// Exchanges the contents of the arenas of each pair.
fn swap_all(device: &Device, pairs: &[Pair]) -> Result<()> {
    if device.is_cpu() {
        for (own, other) in pairs {
            std::mem::swap(&mut *own.cpu()?, &mut *other.cpu()?);
        }
        return Ok(());
    }
    let key = pairs.iter().flat_map(|(own, other)| [own.id, other.id]).collect();
    let kernels = |_: usize, _: &Capabilities| -> Result<Vec<ArenaKernel>> { Ok(pairs.iter().map(swap).collect()) };
    engine::run_kernels(device, &Work { name: "swap", key, numbers: &[], kernels: &kernels })
}

fn swap((own, other): &Pair) -> ArenaKernel {
    let vectors = own.elements / 4;
    let mut kernel = Kernel::own("swap", Shader::of(&[&SWAP]));
    kernel.uniform(Sizes { vectors });
    kernel.workgroups = vectors.div_ceil(64) as u64;
    kernel.bytes = Some(own.elements as u64 * 16);
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::write(own, "own", "vec4<u32>"));
    kernel.bind(ArenaBinding::write(other, "other", "vec4<u32>"));
    kernel
}
