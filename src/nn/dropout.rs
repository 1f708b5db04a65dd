//! Dropout (Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014).

use super::module::{Mode, Module};
use crate::params::Path;
use crate::rng::Draws;
use crate::tensor::Tensor;

/// Zeros a share of the elements at random while training and scales the others so that the mean stays; passes
/// everything on otherwise.
#[derive(Debug, Clone)]
pub struct Dropout {
    p: f64,
    draws: Draws,
}

impl Dropout {
    /// Zeros each element with probability `p`; masks come from the store's counter, which checkpoints keep.
    pub fn new(path: &Path, p: f64) -> Dropout {
        Dropout { p, draws: path.draws().clone() }
    }
}

impl Module for Dropout {
    /// Same shape. The result carries [`crate::Error::Value`] while training unless `0 <= p < 1`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode == Mode::Eval || self.p == 0.0 { x.clone() } else { x.dropout(self.p, &self.draws) }
    }
}
