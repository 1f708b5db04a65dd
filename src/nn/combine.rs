//! Layers made of layers, and layers with parameters that are hardly more than an op.

use std::sync::Arc;

use super::embedding::Embedding;
use super::module::{Mode, Module, bias_like, placed};
use crate::dtype::DType;
use crate::init::Init;
use crate::params::{Param, Path};
use crate::rng::Draws;
use crate::tensor::Tensor;

impl Module for Box<dyn Module> {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        (**self).forward(x, mode)
    }
}

impl<M: Module + ?Sized> Module for Arc<M> {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        (**self).forward(x, mode)
    }
}

/// Each in turn: a list that a program makes in a loop and may take apart again (PyTorch's `ModuleList` in a `Sequential`).
impl<M: Module> Module for Vec<M> {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut x = x.clone();
        for layer in self {
            x = layer.forward(&x, mode);
        }
        x
    }
}

/// x + branch(x), or shortcut(x) + branch(x) where the branch changes the shape (He, Zhang, Ren and Sun 2016).
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::nn::Residual;
/// # let params = ParamStore::new(&Device::cpu(), 1);
/// # let root = params.root();
/// let branch = Sequential::new().add(Linear::new(&root.child("fc"), 8, 8)).add(Tensor::relu);
/// let net = Sequential::new().add(Residual::new(branch)).add(Linear::new(&root.child("head"), 8, 2));
/// # assert_eq!(net.forward(&params.device().zeros(&[1, 8]), Mode::Eval).shape()?, [1, 2]);
/// # Ok::<(), Error>(())
/// ```
pub struct Residual {
    branch: Box<dyn Module>,
    shortcut: Option<Box<dyn Module>>,
}

impl Residual {
    /// x + branch(x).
    pub fn new(branch: impl Module + 'static) -> Residual {
        Residual { branch: Box::new(branch), shortcut: None }
    }

    /// With a layer on the way around the branch.
    #[must_use]
    pub fn shortcut(mut self, layer: impl Module + 'static) -> Residual {
        self.shortcut = Some(Box::new(layer));
        self
    }
}

impl Module for Residual {
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let branch = self.branch.forward(x, mode);
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, mode) + branch,
            None => x + branch,
        }
    }
}

impl std::fmt::Debug for Residual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.shortcut.is_some() { "Residual(with a shortcut)" } else { "Residual" })
    }
}

/// x where x > 0, else a learned slope times x, one for all or one a channel (He et al. 2015), as `torch.nn.PReLU`.
#[derive(Debug, Clone)]
pub struct Prelu {
    /// `[channels]`, or `[1]`: 0.25 to begin with.
    pub weight: Param,
}

impl Prelu {
    /// With `channels` slopes, for axis 1, or one for all.
    #[track_caller]
    pub fn new(path: &Path, channels: usize) -> Prelu {
        Prelu { weight: path.param("weight", &[channels], Init::Constant(0.25)) }
    }
}

impl Module for Prelu {
    /// Same shape.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let y = x.prelu(&bias_like(self.weight.tensor(), x));
        placed(x, y, &self.weight, || "Prelu".into())
    }
}

/// x where x > 0, else x times a slope that is drawn for each element while training and is the mean of the two bounds otherwise (Xu, Wang,
/// Chen and Li 2015), as `torch.nn.RReLU`.
#[derive(Debug, Clone)]
pub struct Rrelu {
    low: f64,
    high: f64,
    draws: Draws,
}

impl Rrelu {
    /// With PyTorch's bounds, 1/8 and 1/3; slopes come from the store's counter.
    pub fn new(path: &Path) -> Rrelu {
        Rrelu::with(path, 1.0 / 8.0, 1.0 / 3.0)
    }

    /// With slopes from `low` to `high`.
    pub fn with(path: &Path, low: f64, high: f64) -> Rrelu {
        Rrelu { low, high, draws: path.draws().clone() }
    }
}

impl Module for Rrelu {
    /// Same shape and dtype.
    #[track_caller]
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        if mode == Mode::Eval || x.error().is_some() {
            return x.leaky_relu((self.low + self.high) / 2.0);
        }
        let slopes = x.device().rand(x.dims(), &self.draws) * (self.high - self.low) + self.low;
        x.gt(0.0).where_(x, &(x * slopes.cast(x.meta().dtype)))
    }
}

/// y_o = x1^T W_o x2 + b_o, as `torch.nn.Bilinear`.
#[derive(Debug, Clone)]
pub struct Bilinear {
    /// `[out, in1, in2]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
}

impl Bilinear {
    /// From pairs of `first` and `second` features to `outputs`, with a bias; all values within `1 / sqrt(first)`.
    #[track_caller]
    pub fn new(path: &Path, first: usize, second: usize, outputs: usize) -> Bilinear {
        let init = super::module::bias_init(first);
        let weight = path.param("weight", &[outputs, first, second], init);
        Bilinear { weight, bias: Some(path.param("bias", &[outputs], init)) }
    }

    /// `[.., in1]` and `[.., in2]` to `[.., out]`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] where they do not fit.
    #[track_caller]
    pub fn forward(&self, x1: &Tensor, x2: &Tensor) -> Tensor {
        let weight = self.weight.tensor();
        let Some(&[outputs, first, second]) = weight.shape().ok() else { return weight };
        // x1 times all W_o at once, then each row with x2.
        let turned = weight.permute(&[1, 0, 2]).reshape(&[first, outputs * second]);
        let products = x1.matmul(&turned).unflatten(-1, &[outputs, second]);
        let y = (products * x2.unsqueeze(-2)).sum(-1);
        let y = match &self.bias {
            Some(bias) => &y + bias_like(bias.tensor(), &y),
            None => y,
        };
        placed(x1, y, &self.weight, || format!("Bilinear {first} x {second} -> {outputs}"))
    }
}

/// What [`EmbeddingBag`] makes of the vectors of a bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Bag {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest of each feature.
    Max,
}

/// The mean, sum or maximum of the vectors of a bag of numbers, as `torch.nn.EmbeddingBag` for bags of one length.
#[derive(Debug, Clone)]
pub struct EmbeddingBag {
    /// The vectors; its padding, if it has one, is not part of a bag's mean.
    pub table: Embedding,
    mode: Bag,
}

impl EmbeddingBag {
    /// Of the vectors of `table`.
    pub fn new(table: Embedding, mode: Bag) -> EmbeddingBag {
        EmbeddingBag { table, mode }
    }

    /// The bags of `index`, u32 or i32 `[batch, length]`: `[batch, features]`. Padding counts in no mean, and for a maximum its
    /// vector of zeros is one as any other.
    #[track_caller]
    pub fn forward(&self, index: &Tensor) -> Tensor {
        let vectors = self.table.forward(index);
        match (self.mode, self.table.padding) {
            (Bag::Max, _) => vectors.max(-2),
            (Bag::Sum, _) => vectors.sum(-2),
            (Bag::Mean, None) => vectors.mean(-2),
            (Bag::Mean, Some(row)) => {
                // An empty bag has a mean of 0, not of 0 / 0.
                let count = index.ne(row as f64).cast(DType::F32).sum_keep(-1).maximum(1.0);
                vectors.sum(-2) / bias_like(count, &vectors)
            }
        }
    }
}
