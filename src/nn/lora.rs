//! Low-rank adapters.

use super::dropout::Dropout;
use super::linear::Linear;
use super::module::{Mode, Module, bias_like, placed};
use crate::error::Result;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What is not the same for every adapter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoraConfig {
    /// The adapter counts `alpha / rank` times; `None` for an alpha of the rank, which is a factor of 1.
    pub alpha: Option<f64>,
    /// Share of the adapter's inputs that are zeroed while training.
    pub dropout: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        LoraConfig { alpha: None, dropout: 0.0 }
    }
}

/// A frozen linear layer with an adapter of low rank beside it (Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang and Chen 2021, "LoRA"):
/// y = x W^T + b + (alpha / rank) x A^T B^T. A begins as a linear layer's weight, B as zeros, so that nothing changes to begin with.
///
/// At the path of the layer its parameters are called `lora_A` and `lora_B`, as in the authors' own library.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::Lora;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// let path = params.root().child("fc");
/// let fc = Lora::new(&path, Linear::new(&path, 8, 4), 2);
/// assert_eq!(params.names(), ["fc.weight", "fc.bias", "fc.lora_A", "fc.lora_B"]);
/// let trained: Vec<_> = params.parameters().into_iter().filter(|param| !param.is_frozen()).collect();
/// assert_eq!(trained.len(), 2);
/// # assert_eq!(fc.forward(&params.device().ones(&[1, 8]), Mode::Eval).shape()?, [1, 4]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Lora {
    /// The layer, frozen.
    pub base: Linear,
    /// A: `[rank, in]`.
    pub down: Param,
    /// B: `[out, rank]`.
    pub up: Param,
    scale: f64,
    dropout: Dropout,
}

impl Lora {
    /// An adapter of this rank for `base`, which is frozen.
    #[track_caller]
    pub fn new(path: &Path, base: Linear, rank: usize) -> Lora {
        Lora::with(path, base, rank, LoraConfig::default())
    }

    /// With a choice of factor and dropout.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Shape`] for a rank of 0, and what making `base` met.
    #[track_caller]
    pub fn with(path: &Path, base: Linear, rank: usize, config: LoraConfig) -> Lora {
        base.weight.freeze();
        base.bias.iter().for_each(Param::freeze);
        let [outputs, inputs] = base.weight.shape().map_or([1, 1], |shape| [shape[0], shape[1]]);
        Lora {
            down: path.param("lora_A", &[rank, inputs], Init::FAN_IN_UNIFORM),
            up: path.param("lora_B", &[outputs, rank], Init::Zeros),
            scale: config.alpha.map_or(1.0, |alpha| alpha / rank.max(1) as f64),
            dropout: Dropout::new(path, config.dropout),
            base,
        }
    }

    /// What the adapter adds to the weight: `[out, in]`.
    #[track_caller]
    pub fn change(&self) -> Tensor {
        self.up.tensor().matmul(&self.down.tensor()) * self.scale
    }

    /// Adds the adapter to the weight of the layer, and begins it anew from zeros: `base` alone gives then what both gave before, up to
    /// rounding, and so do both. Waits for the device.
    ///
    /// # Errors
    /// As [`Param::assign`].
    #[track_caller]
    pub fn merge(&self) -> Result<()> {
        self.base.weight.assign(&(self.base.weight.tensor() + self.change()))?;
        self.up.reinit(Init::Zeros)
    }

    /// True for the names of adapters' parameters: `params.save_where(file, Lora::is_adapter)` saves them alone.
    pub fn is_adapter(name: &str) -> bool {
        name.rsplit('.').next().is_some_and(|last| last == "lora_A" || last == "lora_B")
    }
}

impl Module for Lora {
    /// `[.., in]` to `[.., out]`.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let y = self.base.forward(x, mode);
        if y.error().is_some() {
            return y;
        }
        let inner = self.dropout.forward(x, mode).matmul(&self.down.tensor().transpose(0, 1));
        let side = inner.matmul(&self.up.tensor().transpose(0, 1)) * self.scale;
        let y = y + bias_like(side, x);
        placed(x, y, &self.down, || "Lora".into())
    }
}
