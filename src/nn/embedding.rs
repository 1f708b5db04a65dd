//! Tables of vectors that are looked up by number.

use super::module::placed;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

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
        Embedding::with(path, numbers, features, None, Init::Normal { mean: 0.0, deviation: 1.0 })
    }

    /// With a number for padding, whose vector is zeros and stays so, for it gets no gradient, and a choice of initial values
    /// for the others, as PyTorch's `padding_idx`.
    #[track_caller]
    pub fn with(path: &Path, numbers: usize, features: usize, padding: Option<usize>, init: Init) -> Embedding {
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
