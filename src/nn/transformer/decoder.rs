//! Layers that look at a sequence and at what an encoder made of another.

use super::{Settings, TransformerLayerConfig, norm, perceptron, settings};
use crate::nn::attention::{AttentionMask, MultiHeadAttention, MultiHeadAttentionConfig};
use crate::nn::key_values::KeyValueCache;
use crate::nn::linear::Linear;
use crate::nn::module::{Mode, Module};
use crate::nn::norm::LayerNorm;
use crate::params::Path;
use crate::rng::Draws;
use crate::tensor::Tensor;

/// What positions of a decoder see. The default: everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecoderMask<'a> {
    /// Of the target over itself.
    pub target: AttentionMask<'a>,
    /// Of the target over the memory.
    pub memory: AttentionMask<'a>,
}

/// Attention of a sequence over itself, then over a memory, and a perceptron, each in a residual branch, as
/// `torch.nn.TransformerDecoderLayer`.
#[derive(Debug, Clone)]
pub struct TransformerDecoderLayer {
    /// Of the target over itself.
    pub self_attn: MultiHeadAttention,
    /// Of the target over the memory.
    pub multihead_attn: MultiHeadAttention,
    /// `features` to `hidden`.
    pub linear1: Linear,
    /// `hidden` to `features`.
    pub linear2: Linear,
    /// Of the first attention.
    pub norm1: LayerNorm,
    /// Of the second.
    pub norm2: LayerNorm,
    /// Of the perceptron.
    pub norm3: LayerNorm,
    settings: Settings,
    draws: Draws,
}

impl TransformerDecoderLayer {
    /// Of so many features, a multiple of the heads, with the defaults of a [`super::TransformerEncoderLayer`].
    #[track_caller]
    pub fn new(path: &Path, features: usize, heads: usize) -> TransformerDecoderLayer {
        TransformerDecoderLayer::with(path, features, heads, TransformerLayerConfig::default())
    }

    /// With a choice of the features between the linear layers and of biases.
    #[track_caller]
    pub fn with(path: &Path, features: usize, heads: usize, config: TransformerLayerConfig) -> TransformerDecoderLayer {
        let settings = Settings::default();
        let of_attention = MultiHeadAttentionConfig { bias: config.bias, ..MultiHeadAttentionConfig::default() };
        let attention = |name: &str| {
            MultiHeadAttention::with(&path.child(name), features, heads, of_attention).dropout(settings.dropout)
        };
        let [self_attn, multihead_attn] = ["self_attn", "multihead_attn"].map(attention);
        let [linear1, linear2] = perceptron(path, features, config);
        let [norm1, norm2, norm3] =
            ["norm1", "norm2", "norm3"].map(|name| norm(&path.child(name), features, config.bias));
        let draws = path.draws().clone();
        TransformerDecoderLayer { self_attn, multihead_attn, linear1, linear2, norm1, norm2, norm3, settings, draws }
    }

    /// Position i of the target sees positions 0 to i alone, in every call.
    #[must_use]
    pub fn causal(mut self) -> TransformerDecoderLayer {
        self.self_attn = self.self_attn.causal();
        self
    }

    fn norms_mut(&mut self) -> impl Iterator<Item = &mut LayerNorm> {
        [&mut self.norm1, &mut self.norm2, &mut self.norm3].into_iter()
    }

    /// `x` `[batch, length, features]` over itself and over `memory` `[batch, positions, features]`: same shape as `x`.
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend`].
    #[track_caller]
    pub fn run(&self, x: &Tensor, memory: &Tensor, mask: &DecoderMask<'_>, mode: Mode) -> Tensor {
        self.around(x, memory, &mask.memory, mode, |x| self.self_attn.attend(x, x, x, &mask.target, mode))
    }

    /// The same of new positions `x` `[batch, new, features]` behind those in the cache: [`MultiHeadAttention::attend_cached`]. Keys and values
    /// of the memory are formed again.
    #[track_caller]
    pub fn run_cached(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: &AttentionMask<'_>,
        cache: &KeyValueCache,
        layer: usize,
    ) -> Tensor {
        self.around(x, memory, mask, Mode::Eval, |x| self.self_attn.attend_cached(x, cache, layer))
    }

    #[track_caller]
    fn around(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: &AttentionMask<'_>,
        mode: Mode,
        attend: impl FnOnce(&Tensor) -> Tensor,
    ) -> Tensor {
        let (settings, draws) = (&self.settings, &self.draws);
        let x = settings.residual(x, &self.norm1, draws, mode, attend);
        let x = settings
            .residual(&x, &self.norm2, draws, mode, |x| self.multihead_attn.attend(x, memory, memory, mask, mode));
        settings.residual(&x, &self.norm3, draws, mode, |x| {
            settings.perceptron(x, [&self.linear1, &self.linear2], draws, mode)
        })
    }
}

settings!(TransformerDecoderLayer, self_attn, multihead_attn);

/// Layers one after the other, perhaps with a norm behind the last, as `torch.nn.TransformerDecoder`; see [`super::TransformerEncoder`].
#[derive(Debug, Clone)]
pub struct TransformerDecoder {
    /// In order.
    pub layers: Vec<TransformerDecoderLayer>,
    /// Behind the last.
    pub norm: Option<LayerNorm>,
}

impl TransformerDecoder {
    /// `count` layers, each made at a path `layers.0`, `layers.1` and so on.
    #[track_caller]
    pub fn new(
        path: &Path,
        count: usize,
        mut make: impl FnMut(&Path) -> TransformerDecoderLayer,
    ) -> TransformerDecoder {
        let path = path.child("layers");
        TransformerDecoder { layers: (0..count).map(|layer| make(&path.child(layer))).collect(), norm: None }
    }

    /// With a norm behind the last layer, as there must be one where layers normalise first.
    #[must_use]
    pub fn norm(self, norm: LayerNorm) -> TransformerDecoder {
        TransformerDecoder { norm: Some(norm), ..self }
    }

    /// `x` `[batch, length, features]` over itself and over `memory` `[batch, positions, features]`: same shape as `x`.
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend`].
    #[track_caller]
    pub fn run(&self, x: &Tensor, memory: &Tensor, mask: &DecoderMask<'_>, mode: Mode) -> Tensor {
        let mut x = x.clone();
        for layer in &self.layers {
            x = layer.run(&x, memory, mask, mode);
        }
        self.normed(x, mode)
    }

    /// A cache of the target for sampling with this decoder, of `batch` sequences and `capacity` positions.
    pub fn cache(&self, batch: usize, capacity: usize) -> KeyValueCache {
        KeyValueCache::of(self.layers.iter().map(|layer| &layer.self_attn), batch, capacity)
    }

    /// New positions `x` `[batch, new, features]` of the target behind those in the cache, which has them afterwards; `mask` is that of the
    /// memory. See [`super::TransformerEncoder::run_cached`].
    ///
    /// # Errors
    /// The result carries those of [`MultiHeadAttention::attend_cached`]; the cache is as long as before then.
    #[track_caller]
    pub fn run_cached(
        &self,
        x: &Tensor,
        memory: &Tensor,
        mask: &AttentionMask<'_>,
        cache: &mut KeyValueCache,
    ) -> Tensor {
        let mut y = x.clone();
        for (number, layer) in self.layers.iter().enumerate() {
            y = layer.run_cached(&y, memory, mask, cache, number);
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
