//! The layers of transformers (Vaswani et al. 2017), with the names, layouts and initial values of `torch.nn`, so that its weights load.
//! Batches are in front (`batch_first=True` there).

mod decoder;
mod encoder;
mod whole;

pub use decoder::{DecoderMask, TransformerDecoder, TransformerDecoderLayer};
pub use encoder::{TransformerEncoder, TransformerEncoderLayer};
pub use whole::{Transformer, TransformerConfig, TransformerMask};

use super::linear::{Linear, LinearConfig};
use super::module::{Mode, Module};
use super::norm::LayerNorm;
use crate::init::Init;
use crate::params::Path;
use crate::rng::Draws;
use crate::tensor::Tensor;

/// What shapes the parameters of a layer of a transformer. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerLayerConfig {
    /// Features between the two linear layers (PyTorch's `dim_feedforward`).
    pub hidden: usize,
    /// Whether attention, linear layers and norms have biases.
    pub bias: bool,
}

impl Default for TransformerLayerConfig {
    fn default() -> Self {
        TransformerLayerConfig { hidden: 2048, bias: true }
    }
}

/// What a layer computes besides its parameters. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy)]
struct Settings {
    activation: fn(&Tensor) -> Tensor,
    norm_first: bool,
    dropout: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { activation: Tensor::relu, norm_first: false, dropout: 0.1 }
    }
}

impl Settings {
    /// x + branch(x), normalised behind the sum or in front of the branch.
    #[track_caller]
    fn residual(
        &self,
        x: &Tensor,
        norm: &LayerNorm,
        draws: &Draws,
        mode: Mode,
        branch: impl FnOnce(&Tensor) -> Tensor,
    ) -> Tensor {
        match self.norm_first {
            true => x + self.dropped(branch(&norm.forward(x, mode)), draws, mode),
            false => norm.forward(&(x + self.dropped(branch(x), draws, mode)), mode),
        }
    }

    /// The perceptron of each position.
    #[track_caller]
    fn perceptron(&self, x: &Tensor, [up, down]: [&Linear; 2], draws: &Draws, mode: Mode) -> Tensor {
        let hidden = (self.activation)(&up.forward(x, mode));
        down.forward(&self.dropped(hidden, draws, mode), mode)
    }

    #[track_caller]
    fn dropped(&self, x: Tensor, draws: &Draws, mode: Mode) -> Tensor {
        if mode == Mode::Eval || self.dropout == 0.0 { x } else { x.dropout(self.dropout, draws) }
    }
}

/// The methods that both kinds of layers have; `attentions` are those that drop weights, too.
macro_rules! settings {
    ($layer:ident, $($attention:ident),+) => {
        impl $layer {
            /// Normalises in front of attention and perceptron, not behind the sums (Xiong et al. 2020).
            #[must_use]
            pub fn norm_first(mut self) -> $layer {
                self.settings.norm_first = true;
                self
            }

            /// What stands between the two linear layers: `Tensor::relu` unless it is said, `Tensor::gelu`, or any function.
            #[must_use]
            pub fn activation(mut self, activation: fn(&Tensor) -> Tensor) -> $layer {
                self.settings.activation = activation;
                self
            }

            /// Share that is zeroed while training: of attention weights, between the two linear layers, and of what is added to the
            /// input. 0.1 unless it is said.
            #[must_use]
            pub fn dropout(mut self, p: f64) -> $layer {
                self.settings.dropout = p;
                $(self.$attention = self.$attention.dropout(p);)+
                self
            }

            /// Added to variances before their roots are taken; 1e-5 unless it is said.
            #[must_use]
            pub fn norm_epsilon(mut self, epsilon: f64) -> $layer {
                self.norms_mut().for_each(|norm| norm.epsilon = epsilon);
                self
            }
        }
    };
}
use settings;

/// A norm over the last axis, with or without a bias.
#[track_caller]
fn norm(path: &Path, features: usize, bias: bool) -> LayerNorm {
    let mut norm = LayerNorm::plain(1);
    norm.weight = Some(path.param("weight", &[features], Init::Ones));
    norm.bias = bias.then(|| path.param("bias", &[features], Init::Zeros));
    norm
}

/// `linear1` and `linear2`.
#[track_caller]
fn perceptron(path: &Path, features: usize, config: TransformerLayerConfig) -> [Linear; 2] {
    let linear = |name: &str, [inputs, outputs]: [usize; 2]| {
        Linear::with(&path.child(name), inputs, outputs, LinearConfig { bias: config.bias, ..LinearConfig::default() })
    };
    [linear("linear1", [features, config.hidden]), linear("linear2", [config.hidden, features])]
}
