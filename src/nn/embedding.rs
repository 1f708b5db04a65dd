//! Tables of vectors that are looked up by number.

use super::module::placed;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What shapes or draws the parameters of an embedding. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbeddingConfig {
    /// The number for padding: its vector is zeros and stays so, for it gets no gradient (PyTorch's `padding_idx`).
    pub padding: Option<usize>,
    /// Initial values of the others.
    pub init: Init,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        EmbeddingConfig { padding: None, init: Init::Normal { mean: 0.0, deviation: 1.0 } }
    }
}

/// A vector of features for each of some numbers (words, characters, positions), as `torch.nn.Embedding`.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// `[numbers, features]`.
    pub weight: Param,
    /// The number whose vector starts as zeros and gets no gradient.
    pub padding: Option<usize>,
}

impl Embedding {
    /// For numbers below `numbers`; standard normal initial values, as PyTorch's.
    #[track_caller]
    pub fn new(path: &Path, numbers: usize, features: usize) -> Embedding {
        Embedding::with(path, numbers, features, EmbeddingConfig::default())
    }

    /// With a number for padding and a choice of initial values.
    #[track_caller]
    pub fn with(path: &Path, numbers: usize, features: usize, config: EmbeddingConfig) -> Embedding {
        let EmbeddingConfig { padding, init } = config;
        Embedding { weight: path.param_but_for("weight", &[numbers, features], init, padding), padding }
    }

    /// The vectors of `index`, u32 or i32 of any shape: `[.., features]`. See [`Tensor::embedding`].
    #[track_caller]
    pub fn forward(&self, index: &Tensor) -> Tensor {
        let y = self.weight.tensor().embedding(index, self.padding);
        placed(index, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([numbers, features]) => format!("Embedding of {numbers} x {features}"),
            _ => "Embedding".into(),
        })
    }
}
