//! Dropout (Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov 2014) and stochastic depth (Huang, Sun, Liu, Sedra
//! and Weinberger 2016).

use super::module::{Mode, Module};
use crate::ops::random::StochasticDepthMode;
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
    /// Same shape. The result carries [`crate::Error::Value`] while training unless `0 <= p <= 1`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode == Mode::Eval || self.p == 0.0 { x.clone() } else { x.dropout(self.p, &self.draws) }
    }
}

/// Zeros whole samples, or the whole batch, at random while training and scales the others so that the mean stays; passes
/// everything on otherwise. It stands at the end of a residual branch: `x + depth(branch(x))`, as `torchvision.ops.StochasticDepth`.
#[derive(Debug, Clone)]
pub struct StochasticDepth {
    p: f64,
    mode: StochasticDepthMode,
    draws: Draws,
}

impl StochasticDepth {
    /// Zeros with probability `p`, each sample by itself or all together; masks come from the store's counter, which
    /// checkpoints keep. The paper lets `p` grow with the depth, from 0 at the first branch to 0.5 at the last.
    pub fn new(path: &Path, p: f64, mode: StochasticDepthMode) -> StochasticDepth {
        StochasticDepth { p, mode, draws: path.draws().clone() }
    }
}

impl Module for StochasticDepth {
    /// Same shape. The result carries what [`Tensor::stochastic_depth`] refuses, while training.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        match mode {
            Mode::Train if self.p != 0.0 => x.stochastic_depth(self.p, self.mode, &self.draws),
            _ => x.clone(),
        }
    }
}
