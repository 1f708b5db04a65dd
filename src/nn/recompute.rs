//! Trading time for memory.

use super::module::{Mode, Module};
use crate::tensor::Tensor;

/// A module whose intermediate results are computed again in the backward pass instead of being kept for it: its inputs
/// and its result are kept, nothing between. See [`crate::recompute`].
///
/// Wrapping each of n equal blocks of a deep network cuts the memory between the passes from all that the blocks keep to
/// one result a block and the inside of one block, for at most one more forward pass. The last block need not be
/// wrapped: its backward pass comes first, when what it keeps is there anyway.
#[derive(Debug, Clone)]
pub struct Recompute<M>(pub M);

impl<M: Module> Module for Recompute<M> {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        crate::recompute::recompute(|| self.0.forward(x, mode))
    }
}
