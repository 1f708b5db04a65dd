//! Regions whose intermediate results are computed again in the backward pass instead of being kept for it: gradient
//! checkpointing (Chen et al. 2016, "Training deep nets with sublinear memory cost"; `torch.utils.checkpoint`).

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    static REGION: Cell<u64> = const { Cell::new(0) };
}

/// Number of the region that this thread records in, 0 for none.
pub(crate) fn current_region() -> u64 {
    REGION.get()
}

/// Runs `body`; what it records is computed again in the backward pass instead of being kept for it.
///
/// Kept are the region's inputs and those of its results that are used outside; everything between costs its forward
/// time once more and no memory between the passes. Random draws repeat, assignments to state do not. The numbers are
/// those of the same program without the mark (on a GPU to rounding, since other ops may be fused). A region within a
/// region belongs to the outer one.
///
/// ```
/// # use kiln::prelude::*;
/// # let device = Device::cpu();
/// # let x = device.tensor(&[1.0_f32, 2.0], &[2]).variable();
/// let y = kiln::recompute(|| x.exp().tanh().exp());
/// let gradient = y.sum_all().gradients(&[&x])?;
/// # gradient[0].to_vec::<f32>()?;
/// # Ok::<(), Error>(())
/// ```
pub fn recompute<R>(body: impl FnOnce() -> R) -> R {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    /// Leaves the region, by a panic of `body` too.
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            REGION.set(0);
        }
    }
    if REGION.get() != 0 {
        return body();
    }
    REGION.set(NEXT.fetch_add(1, Ordering::Relaxed));
    let _leave = Leave;
    body()
}
