//! Layers that look at one sequence: the encoder of a transformer and, with a causal mask, a GPT.

use super::{Settings, TransformerLayerConfig, norm, perceptron, settings};
use crate::nn::attention::{AttentionMask, MultiHeadAttention, MultiHeadAttentionConfig};
use crate::nn::key_values::KeyValueCache;
use crate::nn::linear::Linear;
use crate::nn::module::{Mode, Module};
use crate::nn::norm::LayerNorm;
use crate::nn::positions::RotaryEmbedding;
use crate::params::Path;
use crate::rng::Draws;
use crate::tensor::Tensor;

/// Attention and a perceptron, each in a residual branch, as `torch.nn.TransformerEncoderLayer`.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::TransformerEncoderLayer;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// # let root = params.root();
/// // A block of a GPT.
/// let block = TransformerEncoderLayer::new(&root.child("block"), 16, 4).norm_first().activation(Tensor::gelu).causal();
/// # assert_eq!(block.forward(&params.device().ones(&[1, 3, 16]), Mode::Eval).shape()?, [1, 3, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TransformerEncoderLayer {
    /// Of the sequence over itself.
    pub self_attn: MultiHeadAttention,
    /// `features` to `hidden`.
    pub linear1: Linear,
    /// `hidden` to `features`.
    pub linear2: Linear,
    /// Of the attention.
    pub norm1: LayerNorm,
    /// Of the perceptron.
    pub norm2: LayerNorm,
    settings: Settings,
    draws: Draws,
}

impl TransformerEncoderLayer {
    /// Of so many features, a multiple of the heads, with PyTorch's defaults: 2,048 features between the linear layers, ReLU, norms behind the
    /// sums, a dropout of 0.1, biases.
    #[track_caller]
    pub fn new(path: &Path, features: usize, heads: usize) -> TransformerEncoderLayer {
        TransformerEncoderLayer::with(path, features, heads, TransformerLayerConfig::default())
    }

    /// With a choice of the features between the linear layers and of biases.
    #[track_caller]
    pub fn with(path: &Path, features: usize, heads: usize, config: TransformerLayerConfig) -> TransformerEncoderLayer {
        let settings = Settings::default();
        let of_attention = MultiHeadAttentionConfig { bias: config.bias, ..MultiHeadAttentionConfig::default() };
        let self_attn = MultiHeadAttention::with(&path.child("self_attn"), features, heads, of_attention);
        let [linear1, linear2] = perceptron(path, features, config);
        TransformerEncoderLayer {
            self_attn: self_attn.dropout(settings.dropout),
            linear1,
            linear2,
            norm1: norm(&path.child("norm1"), features, config.bias),
            norm2: norm(&path.child("norm2"), features, config.bias),
            settings,
            draws: path.draws().clone(),
        }
    }

    /// Position i sees positions 0 to i alone, in every call.
    #[must_use]
    pub fn causal(mut self) -> TransformerEncoderLayer {
        self.self_attn = self.self_attn.causal();
        self
    }

    /// Turns queries and keys by their positions: [`MultiHeadAttention::rotary`].
    #[must_use]
    pub fn rotary(mut self, rotary: &RotaryEmbedding) -> TransformerEncoderLayer {
        self.self_attn = self.self_attn.rotary(rotary);
        self
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut LayerNorm> {
        [&mut self.norm1, &mut self.norm2].into_iter()
    }

    /// `x` `[batch, length, features]` with a mask: same shape.
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend`].
    #[track_caller]
    pub fn run(&self, x: &Tensor, mask: &AttentionMask<'_>, mode: Mode) -> Tensor {
        self.around(x, mode, |x| self.self_attn.attend(x, x, x, mask, mode))
    }

    /// The same of new positions `x` `[batch, new, features]` behind those in the cache: [`MultiHeadAttention::attend_cached`].
    #[track_caller]
    pub fn run_cached(&self, x: &Tensor, cache: &KeyValueCache, layer: usize) -> Tensor {
        self.around(x, Mode::Eval, |x| self.self_attn.attend_cached(x, cache, layer))
    }

    #[track_caller]
    fn around(&self, x: &Tensor, mode: Mode, attend: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let (settings, draws) = (&self.settings, &self.draws);
        let x = settings.residual(x, &self.norm1, draws, mode, attend);
        settings.residual(&x, &self.norm2, draws, mode, |x| {
            settings.perceptron(x, [&self.linear1, &self.linear2], draws, mode)
        })
    }
}

settings!(TransformerEncoderLayer, self_attn);

impl Module for TransformerEncoderLayer {
    /// `[batch, length, features]`: same shape, without a mask unless the layer is causal.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.run(x, &AttentionMask::default(), mode)
    }
}

/// Layers one after the other, perhaps with a norm behind the last, as `torch.nn.TransformerEncoder`. There all layers begin as copies of
/// one; here each has initial values of its own.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::{TransformerEncoder, TransformerEncoderLayer};
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// let path = params.root().child("encoder");
/// let encoder = TransformerEncoder::new(&path, 6, |path| TransformerEncoderLayer::new(path, 16, 4).norm_first())
///     .norm(LayerNorm::new(&path.child("norm"), &[16]));
/// assert!(params.get("encoder.layers.5.self_attn.in_proj_weight").is_some());
/// # assert_eq!(encoder.forward(&params.device().ones(&[1, 3, 16]), Mode::Eval).shape()?, [1, 3, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TransformerEncoder {
    /// In order.
    pub layers: Vec<TransformerEncoderLayer>,
    /// Behind the last.
    pub norm: Option<LayerNorm>,
}

impl TransformerEncoder {
    /// `count` layers, each made at a path `layers.0`, `layers.1` and so on.
    #[track_caller]
    pub fn new(
        path: &Path,
        count: usize,
        mut make: impl FnMut(&Path) -> TransformerEncoderLayer,
    ) -> TransformerEncoder {
        let path = path.child("layers");
        TransformerEncoder { layers: (0..count).map(|layer| make(&path.child(layer))).collect(), norm: None }
    }

    /// With a norm behind the last layer, as there must be one where layers normalise first.
    #[must_use]
    pub fn norm(self, norm: LayerNorm) -> TransformerEncoder {
        TransformerEncoder { norm: Some(norm), ..self }
    }

    /// `x` `[batch, length, features]` with a mask for all layers: same shape.
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend`].
    #[track_caller]
    pub fn run(&self, x: &Tensor, mask: &AttentionMask<'_>, mode: Mode) -> Tensor {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.run(&x, mask, mode);
        }
        self.normed(x, mode)
    }

    /// A cache for sampling with this encoder: so many sequences at once, so many positions at most.
    pub fn cache(&self, batch: usize, capacity: usize) -> KeyValueCache {
        KeyValueCache::of(self.layers.iter().map(|layer| &layer.self_attn), batch, capacity)
    }

    /// New positions `x` `[batch, new, features]` behind those in the cache, which has them afterwards: same shape. A prompt goes in at once,
    /// then each token by itself. Layers see what is in front alone, as causal ones do, and nothing is dropped.
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend_cached`]; the cache is as long as before then.
    #[track_caller]
    pub fn run_cached(&self, x: &Tensor, cache: &mut KeyValueCache) -> Tensor {
        let mut y = x.clone();
        for (number, layer) in self.layers.iter().enumerate() {
            y = layer.run_cached(&y, cache, number);
        }
        cache.advance_by(&y);
        self.normed(y, Mode::Eval)
    }

    #[track_caller]
    fn normed(&self, x: Tensor, mode: Mode) -> Tensor {
        match &self.norm {
            Some(norm) => norm.forward(&x, mode),
            None => x,
        }
    }
}

impl Module for TransformerEncoder {
    /// `[batch, length, features]`: same shape, without a mask unless the layers are causal.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.run(x, &AttentionMask::default(), mode)
    }
}
