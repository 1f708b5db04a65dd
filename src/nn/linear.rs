//! Fully connected layers.

use super::module::{Mode, Module, bias_init, bias_like, placed};
use crate::init::Init;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What shapes or draws the parameters of a linear layer. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinearConfig {
    /// Whether a bias is added.
    pub bias: bool,
    /// Initial values of the weight.
    pub init: Init,
}

impl Default for LinearConfig {
    fn default() -> Self {
        LinearConfig { bias: true, init: Init::FAN_IN_UNIFORM }
    }
}

/// y = x W^T + b on the last axis.
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`, PyTorch's layout.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
}

impl Linear {
    /// From `inputs` to `outputs` features, with a bias and PyTorch's initial values: all within `1 / sqrt(inputs)`.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, outputs: usize) -> Linear {
        Linear::with(path, inputs, outputs, LinearConfig::default())
    }

    /// With a choice of bias and of the weight's initial values.
    #[track_caller]
    pub fn with(path: &Path, inputs: usize, outputs: usize, config: LinearConfig) -> Linear {
        let LinearConfig { bias, init } = config;
        Linear {
            weight: path.param("weight", &[outputs, inputs], init),
            bias: bias.then(|| path.param("bias", &[outputs], bias_init(inputs))),
        }
    }
}

impl Module for Linear {
    /// `[.., in]` to `[.., out]`.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let product = x.matmul(&self.weight.tensor().transpose(0, 1));
        let y = match &self.bias {
            Some(bias) => &product + bias_like(bias.tensor(), &product),
            None => product,
        };
        placed(x, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([outputs, inputs]) => format!("Linear {inputs} -> {outputs}"),
            _ => "Linear".into(),
        })
    }
}
