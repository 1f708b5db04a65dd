//! Tables of vectors that are looked up by number.

use super::module::placed;
use crate::error::Problem;
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
    max_norm: Option<f64>,
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
        Embedding { weight: path.param_but_for("weight", &[numbers, features], init, padding), padding, max_norm: None }
    }

    /// Vectors longer than `max_norm` are given as ones of that length; gradients reach the table as if they had been so there. PyTorch shortens
    /// the table itself, here it keeps what it has.
    #[must_use]
    pub fn max_norm(self, max_norm: f64) -> Embedding {
        Embedding { max_norm: Some(max_norm), ..self }
    }

    /// The vectors of `index`, u32 or i32 of any shape: `[.., features]`. See [`Tensor::embedding`].
    ///
    /// # Errors
    /// As there, and [`crate::Error::Value`] for a longest norm that is not positive.
    #[track_caller]
    pub fn forward(&self, index: &Tensor) -> Tensor {
        let y = self.weight.tensor().embedding(index, self.padding);
        let y = match self.max_norm {
            Some(most) if y.error().is_none() => bounded(&y, most),
            _ => y,
        };
        placed(index, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([numbers, features]) => format!("Embedding of {numbers} x {features}"),
            _ => "Embedding".into(),
        })
    }
}

/// Vectors of a length of `most` at most, through which gradients flow as they are.
#[track_caller]
fn bounded(y: &Tensor, most: f64) -> Tensor {
    if !(most.is_finite() && most > 0.0) {
        let what = format!("a longest norm of {most}");
        return y.problem("embedding", Problem::Value(what, "pass a positive number"));
    }
    let fixed = y.detach();
    let norm = fixed.widen().square().sum_keep(-1).sqrt();
    // Beside the norm as in PyTorch.
    let factor = (norm + 1e-7).recip().times(most).minimum(1.0);
    let shortened = (fixed.widen() * factor).cast(y.meta().dtype);
    y + (shortened - fixed)
}
