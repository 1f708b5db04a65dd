//! Encoder and decoder together.

use super::{
    DecoderMask, TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer,
    TransformerLayerConfig, norm,
};
use crate::init::Init;
use crate::nn::attention::AttentionMask;
use crate::nn::module::Mode;
use crate::params::Path;
use crate::tensor::Tensor;

/// What shapes the parameters of a transformer. The defaults are PyTorch's, and the paper's base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformerConfig {
    /// Layers of the encoder.
    pub encoder_layers: usize,
    /// Layers of the decoder.
    pub decoder_layers: usize,
    /// Of each layer.
    pub layer: TransformerLayerConfig,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        TransformerConfig { encoder_layers: 6, decoder_layers: 6, layer: TransformerLayerConfig::default() }
    }
}

/// What positions of a transformer see. The default: everything. The target's is usually causal.
#[derive(Debug, Clone, Copy, Default)]
pub struct TransformerMask<'a> {
    /// Of the source over itself.
    pub source: AttentionMask<'a>,
    /// Of the target over itself, and over what the encoder makes of the source.
    pub target: DecoderMask<'a>,
}

/// An encoder and a decoder, each with a norm behind its last layer (Vaswani et al. 2017), as `torch.nn.Transformer`. Embeddings,
/// positions and what maps features to words are the program's.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::{AttentionMask, DecoderMask, Transformer, TransformerConfig, TransformerMask};
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// let config = TransformerConfig { encoder_layers: 2, decoder_layers: 2, ..TransformerConfig::default() };
/// let transformer = Transformer::with(&params.root(), 16, 4, config).dropout(0.0);
/// let (source, target) = (params.device().ones(&[1, 7, 16]), params.device().ones(&[1, 3, 16]));
/// let causal = AttentionMask { causal: true, ..Default::default() };
/// let mask = TransformerMask { target: DecoderMask { target: causal, ..Default::default() }, ..Default::default() };
/// assert_eq!(transformer.run(&source, &target, &mask, Mode::Train).shape()?, [1, 3, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Transformer {
    /// Of the source.
    pub encoder: TransformerEncoder,
    /// Of the target.
    pub decoder: TransformerDecoder,
}

impl Transformer {
    /// Of so many features, a multiple of the heads, with PyTorch's defaults: six layers each.
    #[track_caller]
    pub fn new(path: &Path, features: usize, heads: usize) -> Transformer {
        Transformer::with(path, features, heads, TransformerConfig::default())
    }

    /// With a choice of layers. All matrices begin Xavier-uniform, as there.
    #[track_caller]
    pub fn with(path: &Path, features: usize, heads: usize, config: TransformerConfig) -> Transformer {
        let [encoder, decoder] = ["encoder", "decoder"].map(|name| path.child(name));
        let last = |path: &Path| norm(&path.child("norm"), features, config.layer.bias);
        let of_encoder = TransformerEncoder::new(&encoder, config.encoder_layers, |path| {
            TransformerEncoderLayer::with(path, features, heads, config.layer)
        });
        let of_encoder = of_encoder.norm(last(&encoder));
        let of_decoder = TransformerDecoder::new(&decoder, config.decoder_layers, |path| {
            TransformerDecoderLayer::with(path, features, heads, config.layer)
        });
        let transformer = Transformer { encoder: of_encoder, decoder: of_decoder.norm(last(&decoder)) };
        let all = [encoder, decoder].into_iter().flat_map(|path| path.parameters());
        for param in all.filter(|param| param.shape().is_ok_and(|shape| shape.rank() > 1)) {
            // It has no value yet, so that nothing can fail but what the parameter's tensor says itself.
            let _ = param.reinit(Init::XavierUniform { gain: 1.0 });
        }
        transformer
    }

    /// All layers normalise first: [`TransformerEncoderLayer::norm_first`].
    #[must_use]
    pub fn norm_first(self) -> Transformer {
        self.each(TransformerEncoderLayer::norm_first, TransformerDecoderLayer::norm_first)
    }

    /// Of all layers: [`TransformerEncoderLayer::activation`].
    #[must_use]
    pub fn activation(self, activation: fn(&Tensor) -> Tensor) -> Transformer {
        self.each(|layer| layer.activation(activation), |layer| layer.activation(activation))
    }

    /// Of all layers: [`TransformerEncoderLayer::dropout`].
    #[must_use]
    pub fn dropout(self, p: f64) -> Transformer {
        self.each(|layer| layer.dropout(p), |layer| layer.dropout(p))
    }

    fn each(
        mut self,
        encoder: impl Fn(TransformerEncoderLayer) -> TransformerEncoderLayer,
        decoder: impl Fn(TransformerDecoderLayer) -> TransformerDecoderLayer,
    ) -> Transformer {
        self.encoder.layers = self.encoder.layers.into_iter().map(encoder).collect();
        self.decoder.layers = self.decoder.layers.into_iter().map(decoder).collect();
        self
    }

    /// The target `[batch, length, features]`, decoded over the encoded source `[batch, positions, features]`: of the target's shape.
    ///
    /// # Errors
    /// The result carries those of [`crate::nn::MultiHeadAttention::attend`].
    #[track_caller]
    pub fn run(&self, source: &Tensor, target: &Tensor, mask: &TransformerMask<'_>, mode: Mode) -> Tensor {
        self.decoder.run(target, &self.encoder.run(source, &mask.source, mode), &mask.target, mode)
    }
}
