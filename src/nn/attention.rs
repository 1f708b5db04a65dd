//! Multi-head attention.

use std::sync::Arc;

use super::key_values::KeyValueCache;
use super::linear::Linear;
use super::module::{Mode, Module, placed};
use super::positions::RotaryEmbedding;
use crate::device::Device;
use crate::error::Problem;
use crate::init::Init;
use crate::ops::attention::AttentionOptions;
use crate::params::{Param, Path};
use crate::rng::Draws;
use crate::tensor::Tensor;

/// How errors call the layer.
const LAYER: &str = "multi_head_attention";

/// What shapes the parameters of an attention. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiHeadAttentionConfig {
    /// Whether biases are added.
    pub bias: bool,
    /// Features of the keys, if they are not as many as those of the queries (PyTorch's `kdim`).
    pub key_features: Option<usize>,
    /// Features of the values, likewise (`vdim`).
    pub value_features: Option<usize>,
}

impl Default for MultiHeadAttentionConfig {
    fn default() -> Self {
        MultiHeadAttentionConfig { bias: true, key_features: None, value_features: None }
    }
}

/// Which keys a query sees. The default: all of them. What is said together holds together.
#[derive(Debug, Clone, Copy, Default)]
pub struct AttentionMask<'a> {
    /// Query i sees keys 0 to i alone.
    pub causal: bool,
    /// Of a shape that stretches to `[batch, heads, queries, keys]`. Bool: true where a query sees a key (PyTorch's layers say true where it
    /// does not); a float of the queries' dtype: added to the scores.
    pub mask: Option<&'a Tensor>,
    /// Keys of each row, u32 `[batch]`: what is behind them is padding, which must be finite (PyTorch's `key_padding_mask`).
    pub lengths: Option<&'a Tensor>,
}

/// The weights that make queries, keys and values.
#[derive(Debug, Clone)]
pub enum InProjection {
    /// One below the other: `in_proj_weight` `[3 features, features]`.
    Joint(Param),
    /// Each of its own width: `q_proj_weight` `[features, features]`, `k_proj_weight` `[features, key_features]` and `v_proj_weight`
    /// `[features, value_features]`.
    Apart([Param; 3]),
}

/// Attention in several heads between linear layers (Vaswani et al. 2017, section 3.2.2), with the names, layouts and
/// initial values of `torch.nn.MultiheadAttention` and batches in front (`batch_first=True` there).
///
/// ```
/// # use kiln::prelude::*;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// let attention = MultiHeadAttention::new(&params.root().child("attention"), 16, 4).causal().dropout(0.1);
/// let x = params.device().ones(&[2, 5, 16]);
/// assert_eq!(attention.forward(&x, Mode::Train).shape()?, [2, 5, 16]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MultiHeadAttention {
    /// Of queries, keys and values.
    pub in_proj: InProjection,
    /// `[3 features]`.
    pub in_proj_bias: Option<Param>,
    /// What mixes the heads.
    pub out_proj: Linear,
    features: usize,
    heads: usize,
    causal: bool,
    dropout: f64,
    rotary: Option<Arc<RotaryEmbedding>>,
    draws: Draws,
    device: Device,
}

impl MultiHeadAttention {
    /// Of so many features, a multiple of the heads, with biases.
    #[track_caller]
    pub fn new(path: &Path, features: usize, heads: usize) -> MultiHeadAttention {
        MultiHeadAttention::with(path, features, heads, MultiHeadAttentionConfig::default())
    }

    /// With a choice of biases and of the widths of keys and values.
    #[track_caller]
    pub fn with(path: &Path, features: usize, heads: usize, config: MultiHeadAttentionConfig) -> MultiHeadAttention {
        let out = path.child("out_proj");
        // One that is too large stays so, and is the store's error.
        let three = features.saturating_mul(3);
        let weight = |name: &str, shape: [usize; 2]| path.param(name, &shape, Init::XavierUniform { gain: 1.0 });
        let widths = [config.key_features, config.value_features].map(|width| width.unwrap_or(features));
        let in_proj = match widths == [features; 2] {
            true => InProjection::Joint(weight("in_proj_weight", [three, features])),
            false => InProjection::Apart([
                weight("q_proj_weight", [features, features]),
                weight("k_proj_weight", [features, widths[0]]),
                weight("v_proj_weight", [features, widths[1]]),
            ]),
        };
        MultiHeadAttention {
            in_proj,
            in_proj_bias: config.bias.then(|| path.param("in_proj_bias", &[three], Init::Zeros)),
            out_proj: Linear {
                weight: out.param("weight", &[features, features], Init::FAN_IN_UNIFORM),
                bias: config.bias.then(|| out.param("bias", &[features], Init::Zeros)),
            },
            features,
            heads,
            causal: false,
            dropout: 0.0,
            rotary: None,
            draws: path.draws().clone(),
            device: path.store().device().clone(),
        }
    }

    /// Position i sees positions 0 to i alone, in every call.
    #[must_use]
    pub fn causal(self) -> MultiHeadAttention {
        MultiHeadAttention { causal: true, ..self }
    }

    /// Zeros this share of the attention weights while training.
    #[must_use]
    pub fn dropout(self, p: f64) -> MultiHeadAttention {
        MultiHeadAttention { dropout: p, ..self }
    }

    /// Turns queries and keys by their positions, which count from 0 or, with a cache, from its length. Its features are those of a head.
    #[must_use]
    pub fn rotary(self, rotary: &RotaryEmbedding) -> MultiHeadAttention {
        MultiHeadAttention { rotary: Some(Arc::new(rotary.clone())), ..self }
    }

    /// Attention of `query` `[batch, queries, features]` over `key` `[batch, keys, key_features]` and `value`
    /// `[batch, keys, value_features]`: `[batch, queries, features]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] where a shape does not fit, [`crate::Error::Value`] unless the heads
    /// divide the features; else as [`Tensor::scaled_dot_product_attention`].
    #[track_caller]
    pub fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: &AttentionMask<'_>, mode: Mode) -> Tensor {
        let parts = match self.projected([query, key, value]) {
            Ok(parts) => parts,
            Err(broken) => return self.placed(query, broken),
        };
        let [q, k, v] = match self.turned(parts, 0) {
            Ok(parts) => parts,
            Err(broken) => return self.placed(query, broken),
        };
        let options = AttentionOptions {
            causal: self.causal || mask.causal,
            mask: mask.mask,
            lengths: mask.lengths,
            dropout: if mode == Mode::Train { self.dropout } else { 0.0 },
            draws: Some(&self.draws),
            ..AttentionOptions::default()
        };
        self.joined(query, q.scaled_dot_product_attention(&k, &v, &options), mode)
    }

    /// The same of new positions `x` `[batch, new, features]`, as for evaluation: each sees those in front of it, in `cache` and in `x`. Keys
    /// and values of `x` go into layer `layer` of the cache; [`KeyValueCache::advance`], once all layers have been called, makes them
    /// positions of the past. No shape depends on what the cache holds.
    ///
    /// # Errors
    /// As [`MultiHeadAttention::attend`], and [`crate::Error::Value`] where the cache has no such layer or no room for `x`,
    /// [`crate::Error::Shape`] where it is of another batch or other heads.
    #[track_caller]
    pub fn attend_cached(&self, x: &Tensor, cache: &KeyValueCache, layer: usize) -> Tensor {
        let parts = match self.projected([x; 3]) {
            Ok(parts) => parts,
            Err(broken) => return self.placed(x, broken),
        };
        let kept = self.turned(parts, cache.length()).and_then(|[q, k, v]| Ok((q, cache.extended(layer, &k, &v)?)));
        let (q, past) = match kept {
            Ok(kept) => kept,
            Err(broken) => return self.placed(x, broken),
        };
        let options = AttentionOptions { mask: Some(&past.seen), ..AttentionOptions::default() };
        self.joined(x, q.scaled_dot_product_attention(&past.keys, &past.values, &options), Mode::Eval)
    }

    /// A cache for this layer alone: so many sequences at once, so many positions at most.
    ///
    /// # Errors
    /// What is attended with it carries [`crate::Error::Shape`] if it is too large.
    pub fn cache(&self, batch: usize, capacity: usize) -> KeyValueCache {
        KeyValueCache::of([self], batch, capacity)
    }

    /// Keys, or values, of a cache: none yet.
    pub(super) fn empty(&self, batch: usize, capacity: usize) -> Tensor {
        self.device.zeros(&[batch, self.heads, capacity, self.features / self.heads.max(1)])
    }

    /// Queries, keys and values, `[batch, heads, length, features / heads]`.
    #[track_caller]
    fn projected(&self, given: [&Tensor; 3]) -> Result<[Tensor; 3], Tensor> {
        if let Some(broken) = given.iter().find(|x| x.error().is_some()) {
            return Err((*broken).clone());
        }
        let (features, heads) = (self.features, self.heads);
        let query = given[0];
        if heads == 0 || !features.is_multiple_of(heads) {
            let what = format!("{features} features in {heads} heads");
            return Err(query.problem(LAYER, Problem::Value(what, "choose heads that divide the features")));
        }
        let widths = self.widths();
        let fits = |(x, width): (&&Tensor, &usize)| {
            x.dims().rank() == 3 && x.dims()[2] == *width && x.dims()[0] == query.dims()[0]
        };
        if !given.iter().zip(&widths).all(fits) || given[1].dims()[1] != given[2].dims()[1] {
            let [q, k, v] = given.map(|x| x.dims());
            let what = format!("queries {q}, keys {k}, values {v} for {widths:?} features");
            let next = "pass [batch, length, features] for each, with as many values as keys";
            return Err(query.problem(LAYER, Problem::Shape(what, next)));
        }
        let same = |a: usize, b: usize| Arc::ptr_eq(given[a].node(), given[b].node());
        // One product where several of them come from one place.
        let parts = match &self.in_proj {
            InProjection::Joint(_) if same(0, 1) && same(1, 2) => self.product(query, 0, 3),
            InProjection::Joint(_) if same(1, 2) => [self.product(query, 0, 1), self.product(given[1], 1, 2)].concat(),
            _ => (0..3).flat_map(|part| self.product(given[part], part, 1)).collect(),
        };
        let split = |x: &Tensor| {
            let [batch, length] = [x.dims()[0], x.dims()[1]];
            x.reshape(&[batch, length, heads, features / heads]).permute(&[0, 2, 1, 3])
        };
        match parts.iter().find(|part| part.error().is_some()) {
            Some(broken) => Err(broken.clone()),
            None => Ok([&parts[0], &parts[1], &parts[2]].map(split)),
        }
    }

    /// `count` of the three products of `x`, from `first` on.
    #[track_caller]
    fn product(&self, x: &Tensor, first: usize, count: usize) -> Vec<Tensor> {
        let features = self.features;
        let rows =
            |x: &Tensor| if count == 3 { x.clone() } else { x.slice_fixed(0, first * features, count * features) };
        let weight = match &self.in_proj {
            InProjection::Joint(weight) => rows(&weight.tensor()),
            InProjection::Apart(weights) => weights[first].tensor(),
        };
        let y = x.matmul(&weight.transpose(0, 1));
        let y = match &self.in_proj_bias {
            Some(bias) => &y + super::module::bias_like(rows(&bias.tensor()), &y),
            None => y,
        };
        y.split(2, &vec![features; count])
    }

    /// Queries and keys turned by their positions, from `start` on.
    #[track_caller]
    fn turned(&self, [q, k, v]: [Tensor; 3], start: usize) -> Result<[Tensor; 3], Tensor> {
        let Some(rotary) = &self.rotary else { return Ok([q, k, v]) };
        let [q, k] = [q, k].map(|x| rotary.rotate(&x, start));
        let broken = [&q, &k].into_iter().find(|x| x.error().is_some()).cloned();
        broken.map_or(Ok([q, k, v]), Err)
    }

    /// The heads side by side again, and mixed.
    #[track_caller]
    fn joined(&self, query: &Tensor, y: Tensor, mode: Mode) -> Tensor {
        if y.error().is_some() {
            return self.placed(query, y);
        }
        self.out_proj.forward(&y.permute(&[0, 2, 1, 3]).reshape(query.dims()), mode)
    }

    /// Features of queries, keys and values.
    fn widths(&self) -> [usize; 3] {
        match &self.in_proj {
            InProjection::Joint(_) => [self.features; 3],
            InProjection::Apart(weights) => {
                weights.each_ref().map(|weight| weight.shape().map_or(self.features, |shape| shape[1]))
            }
        }
    }

    /// `y`, whose error says in which layer it arose.
    #[track_caller]
    fn placed(&self, x: &Tensor, y: Tensor) -> Tensor {
        let weight = match &self.in_proj {
            InProjection::Joint(weight) => weight,
            InProjection::Apart(weights) => &weights[0],
        };
        placed(x, y, weight, || format!("MultiHeadAttention {} in {} heads", self.features, self.heads))
    }
}

impl Module for MultiHeadAttention {
    /// Attention of `[batch, length, features]` over itself.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        self.attend(x, x, x, &AttentionMask::default(), mode)
    }
}
