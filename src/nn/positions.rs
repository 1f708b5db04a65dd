//! What tells a transformer where in a sequence a vector is.
//!
//! Each takes an offset: the position of the first vector, 0 for whole sequences, the length so far for sampling. It travels as a host
//! number, so that another one makes no other plan. Tables are computed in f64 and rounded once.

use super::module::placed;
use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Problem;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A table `[positions, columns]` of `value(position, column)`, in f32.
#[track_caller]
fn table(device: &Device, [positions, columns]: [usize; 2], value: impl Fn(f64, usize) -> f64) -> Tensor {
    match Shape::new(&[positions, columns]) {
        Some(shape) => {
            let data = (0..shape.elements()).map(|at| value((at / columns) as f64, at % columns)).collect();
            device.array(&Array { shape, dtype: DType::F32, data })
        }
        // The error of a shape that is too large.
        None => device.zeros(&[positions, columns]),
    }
}

/// Rows `offset` to `offset + length` of a table.
#[track_caller]
fn rows(op: &'static str, x: &Tensor, table: &Tensor, offset: usize, length: usize) -> Result<Tensor, Tensor> {
    if table.error().is_some() {
        return Err(table.clone());
    }
    let positions = table.dims()[0];
    if offset.checked_add(length).is_none_or(|end| end > positions) {
        let what = format!("{length} positions from {offset} on, of {positions}");
        return Err(x.problem(op, Problem::Value(what, "make the layer for more positions, or shorten the sequence")));
    }
    Ok(table.slice(0, offset, length))
}

/// Which features of a head [`RotaryEmbedding`] turns together. Weights trained with one are of no use with the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RotaryPairs {
    /// i and i + features / 2, as GPT-NeoX and LLaMA in the layout of Hugging Face.
    #[default]
    Halves,
    /// 2 i and 2 i + 1, as in the paper, GPT-J and LLaMA in Meta's own layout.
    Neighbours,
}

/// What is not the same for every rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotaryConfig {
    /// Pair i turns by position times `base^(-2 i / features)`; 10,000 in the paper.
    pub base: f64,
    /// What makes a pair.
    pub pairs: RotaryPairs,
}

impl Default for RotaryConfig {
    fn default() -> Self {
        RotaryConfig { base: 10_000.0, pairs: RotaryPairs::default() }
    }
}

/// Rotary position embedding (Su, Lu, Pan, Murtadha, Wen and Liu 2021, "RoFormer"): pairs of features of queries and keys are turned by
/// angles in proportion to their positions, so that their product depends on the distance of the two alone.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::RotaryEmbedding;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// # let root = params.root();
/// let rotary = RotaryEmbedding::new(params.device(), 64 / 4, 1024); // of a head; positions below 1,024
/// let attention = MultiHeadAttention::new(&root.child("attention"), 64, 4).causal().rotary(&rotary);
/// # assert_eq!(attention.forward(&params.device().ones(&[1, 3, 64]), Mode::Eval).shape()?, [1, 3, 64]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RotaryEmbedding {
    /// `[positions, features / 2]`.
    cosines: Tensor,
    sines: Tensor,
    features: usize,
    pairs: RotaryPairs,
}

impl RotaryEmbedding {
    /// For vectors of so many features, an even number, at positions below `positions`, with halves as pairs.
    #[track_caller]
    pub fn new(device: &Device, features: usize, positions: usize) -> RotaryEmbedding {
        RotaryEmbedding::with(device, features, positions, RotaryConfig::default())
    }

    /// With a choice of the base and of pairs.
    #[track_caller]
    pub fn with(device: &Device, features: usize, positions: usize, config: RotaryConfig) -> RotaryEmbedding {
        let angle = |position: f64, pair: usize| position * config.base.powf(-2.0 * pair as f64 / features as f64);
        let shape = [positions, features / 2];
        RotaryEmbedding {
            cosines: table(device, shape, |position, pair| angle(position, pair).cos()),
            sines: table(device, shape, |position, pair| angle(position, pair).sin()),
            features,
            pairs: config.pairs,
        }
    }

    /// `x` `[.., length, features]`, of which the first position is `offset`, turned: same shape and dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for other or an odd number of features, [`crate::Error::Value`] for positions that there
    /// is no room for.
    #[track_caller]
    pub fn rotate(&self, x: &Tensor, offset: usize) -> Tensor {
        const OP: &str = "rotary_embedding";
        if x.error().is_some() {
            return x.clone();
        }
        let (dims, rank) = (*x.dims(), x.dims().rank());
        if rank < 2 || dims[rank - 1] != self.features || !self.features.is_multiple_of(2) {
            let what = format!("vectors of shape {dims} for {} features", self.features);
            return x.problem(OP, Problem::Shape(what, "pass [.., length, features], an even number of them"));
        }
        let half = self.features / 2;
        let turn = [&self.cosines, &self.sines].map(|table| rows(OP, x, table, offset, dims[rank - 2]));
        let [cosines, sines] = match turn {
            [Ok(cosines), Ok(sines)] => [cosines, sines],
            [Err(broken), _] | [_, Err(broken)] => return broken,
        };
        let wide = x.widen();
        let turned = match self.pairs {
            RotaryPairs::Halves => {
                let parts = wide.split(rank - 1, &[half; 2]);
                let [first, second] = turned(&parts[0], &parts[1], &cosines, &sines);
                Tensor::concat(&[&first, &second], rank - 1)
            }
            RotaryPairs::Neighbours => {
                let pairs = wide.reshape(&[&dims[..rank - 1], &[half, 2]].concat());
                let parts = pairs.split(rank, &[1; 2]);
                let [cosines, sines] = [cosines, sines].map(|table| table.unsqueeze(-1));
                let [first, second] = turned(&parts[0], &parts[1], &cosines, &sines);
                Tensor::concat(&[&first, &second], rank).reshape(&dims)
            }
        };
        turned.cast(x.meta().dtype)
    }
}

/// Pairs turned by angles.
#[track_caller]
fn turned(first: &Tensor, second: &Tensor, cosines: &Tensor, sines: &Tensor) -> [Tensor; 2] {
    [first * cosines - second * sines, second * cosines + first * sines]
}

/// Sines and cosines of geometrically falling frequencies, added to embeddings (Vaswani et al. 2017, section 3.5): feature 2 i is
/// `sin(position / 10000^(2 i / features))`, feature 2 i + 1 the cosine.
#[derive(Debug, Clone)]
pub struct SinusoidalPositions {
    /// `[positions, features]`.
    table: Tensor,
}

impl SinusoidalPositions {
    /// For vectors of so many features at positions below `positions`.
    #[track_caller]
    pub fn new(device: &Device, positions: usize, features: usize) -> SinusoidalPositions {
        let value = |position: f64, feature: usize| {
            let angle = position * 10_000f64.powf(-((feature / 2 * 2) as f64) / features as f64);
            if feature.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        SinusoidalPositions { table: table(device, [positions, features], value) }
    }

    /// `x` `[.., length, features]`, of which the first position is `offset`, with the vectors of the positions added.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for other features, [`crate::Error::Value`] for positions that there is no room for.
    #[track_caller]
    pub fn add(&self, x: &Tensor, offset: usize) -> Tensor {
        added("sinusoidal_positions", x, &self.table, offset)
    }
}

/// A learned vector for each position, added to embeddings (Gehring et al. 2017; GPT, BERT). The table is named `weight`, as that of an
/// [`super::Embedding`].
#[derive(Debug, Clone)]
pub struct LearnedPositions {
    /// `[positions, features]`.
    pub weight: Param,
}

impl LearnedPositions {
    /// For vectors of so many features at positions below `positions`; normal initial values with a deviation of 0.02, as GPT-2's.
    #[track_caller]
    pub fn new(path: &Path, positions: usize, features: usize) -> LearnedPositions {
        let init = Init::Normal { mean: 0.0, deviation: 0.02 };
        LearnedPositions { weight: path.param("weight", &[positions, features], init) }
    }

    /// `x` `[.., length, features]`, of which the first position is `offset`, with the vectors of the positions added.
    ///
    /// # Errors
    /// As [`SinusoidalPositions::add`].
    #[track_caller]
    pub fn add(&self, x: &Tensor, offset: usize) -> Tensor {
        let y = added("learned_positions", x, &self.weight.tensor(), offset);
        placed(x, y, &self.weight, || "LearnedPositions".into())
    }
}

#[track_caller]
fn added(op: &'static str, x: &Tensor, table: &Tensor, offset: usize) -> Tensor {
    if x.error().is_some() {
        return x.clone();
    }
    let (dims, rank) = (*x.dims(), x.dims().rank());
    if rank < 2 || table.error().is_none() && dims[rank - 1] != table.dims()[1] {
        let what = format!("vectors of shape {dims} for a table of {}", table.dims());
        return x.problem(op, Problem::Shape(what, "pass [.., length, features]"));
    }
    match rows(op, x, table, offset, dims[rank - 2]) {
        Ok(rows) => x + super::module::bias_like(rows, x),
        Err(broken) => broken,
    }
}
