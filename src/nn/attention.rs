//! Multi-head attention.

use super::linear::Linear;
use super::module::{Mode, Module};
use crate::error::Problem;
use crate::init::Init;
use crate::ops::attention::AttentionOptions;
use crate::params::{Param, Path};
use crate::rng::Draws;
use crate::tensor::Tensor;

/// What is not the same for every attention. The default has one head, and otherwise PyTorch's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MultiHeadAttentionConfig {
    /// Parts that the features are split into, each with an attention of its own.
    pub heads: usize,
    /// Position i sees positions 0 to i alone.
    pub causal: bool,
    /// Share of the attention weights that are zeroed while training.
    pub dropout: f64,
    /// Whether biases are added.
    pub bias: bool,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        MultiHeadAttentionConfig { heads: 1, causal: false, dropout: 0.0, bias: true }
    }
}

/// Attention in several heads between linear layers (Vaswani et al. 2017, section 3.2.2), with the names, layouts and
/// initial values of `torch.nn.MultiheadAttention` and batches in front (`batch_first=True` there).
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    /// Queries, keys and values: `[3 features, features]`.
    pub in_proj_weight: Param,
    /// `[3 features]`.
    pub in_proj_bias: Option<Param>,
    /// What mixes the heads.
    pub out_proj: Linear,
    features: usize,
    config: MultiHeadAttentionConfig,
    draws: Draws,
}

impl MultiHeadAttention {
    /// Of so many features, a multiple of the heads.
    #[track_caller]
    pub fn new(path: &Path, features: usize, config: MultiHeadAttentionConfig) -> MultiHeadAttention {
        let out = path.child("out_proj");
        // One that is too large stays so, and is the store's error.
        let three = features.saturating_mul(3);
        MultiHeadAttention {
            in_proj_weight: path.param("in_proj_weight", &[three, features], Init::XavierUniform { gain: 1.0 }),
            in_proj_bias: config.bias.then(|| path.param("in_proj_bias", &[three], Init::Zeros)),
            out_proj: Linear {
                weight: out.param("weight", &[features, features], Init::FAN_IN_UNIFORM),
                bias: config.bias.then(|| out.param("bias", &[features], Init::Zeros)),
            },
            features,
            config,
            draws: path.draws().clone(),
        }
    }

    /// Attention of `query` `[batch, queries, features]` over `memory` `[batch, keys, features]`, which keys and values
    /// come from: `[batch, queries, features]`. `mask` is that of [`AttentionOptions`], over `[batch, heads, queries, keys]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] where a shape does not fit, [`crate::Error::Value`] unless the heads
    /// divide the features; else as [`Tensor::scaled_dot_product_attention`].
    #[track_caller]
    pub fn attend(&self, query: &Tensor, memory: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Tensor {
        if let Some(broken) = [query, memory].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let (features, heads) = (self.features, self.config.heads);
        if heads == 0 || features % heads != 0 {
            let what = format!("{features} features in {heads} heads");
            return query.problem("attention", Problem::Value(what, "choose heads that divide the features"));
        }
        for x in [query, memory] {
            if x.dims().rank() != 3 || x.dims()[2] != features || x.dims()[0] != query.dims()[0] {
                let what = format!("shapes {} and {} for {features} features", query.dims(), memory.dims());
                return query.problem("attention", Problem::Shape(what, "pass [batch, length, features] twice"));
            }
        }
        let (weight, bias) = (self.in_proj_weight.tensor(), self.in_proj_bias.as_ref().map(Param::tensor));
        let project = |x: &Tensor, first: usize, parts: usize| {
            let rows =
                |x: &Tensor| if parts == 3 { x.clone() } else { x.slice_fixed(0, first * features, parts * features) };
            let y = x.matmul(&rows(&weight).transpose(0, 1));
            let y = bias.as_ref().map_or(y.clone(), |bias| y + rows(bias));
            y.split(2, &vec![features; parts])
        };
        // One product where queries, keys and values come from one place.
        let parts = if std::sync::Arc::ptr_eq(query.node(), memory.node()) {
            project(query, 0, 3)
        } else {
            [project(query, 0, 1), project(memory, 1, 2)].concat()
        };
        let split = |x: &Tensor| {
            let [batch, length] = [x.dims()[0], x.dims()[1]];
            x.reshape(&[batch, length, heads, features / heads]).permute(&[0, 2, 1, 3])
        };
        let [q, k, v] = [&parts[0], &parts[1], &parts[2]]
            .map(|part| if part.error().is_some() { part.clone() } else { split(part) });
        let options = AttentionOptions {
            causal: self.config.causal,
            mask,
            scale: None,
            dropout: if mode == Mode::Train { self.config.dropout } else { 0.0 },
            draws: Some(&self.draws),
            ..AttentionOptions::default()
        };
        let y = q.scaled_dot_product_attention(&k, &v, &options);
        if y.error().is_some() {
            return y;
        }
        self.out_proj.forward(&y.permute(&[0, 2, 1, 3]).reshape(query.dims()), mode)
    }
}

impl Module for MultiHeadAttention {
    /// Attention of `[batch, length, features]` over itself.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.attend(x, x, None, mode)
    }
}
