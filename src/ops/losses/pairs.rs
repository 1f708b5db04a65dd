//! Losses of pairs and triplets: how near or far things should be.

use super::{Reduction, alike, loss, not_negative, positive};
use crate::dtype::DType;
use crate::error::Problem;
use crate::tensor::Tensor;

/// Options of [`Tensor::triplet_margin_loss`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TripletOptions {
    /// How much farther the negative should be than the positive.
    pub margin: f64,
    /// Which norm is the distance; 2 is Euclid's.
    pub p: f64,
    /// Added to each difference, so that no distance is 0.
    pub eps: f64,
    /// Takes the distance of positive and negative where that is the smaller one (Balntas et al. 2016).
    pub swap: bool,
    /// What becomes of the rows' losses.
    pub reduction: Reduction,
}

impl Default for TripletOptions {
    fn default() -> Self {
        TripletOptions { margin: 1.0, p: 2.0, eps: 1e-6, swap: false, reduction: Reduction::Mean }
    }
}

/// `Err` unless `signs` is one for each row of what has `rows` axes in front.
fn signs_fit(signs: &Tensor, rows: &[usize]) -> Result<(), Problem> {
    if signs.dims()[..] == *rows {
        return Ok(());
    }
    let what = format!("signs of shape {} for {rows:?}", signs.dims());
    Err(Problem::Shape(what, "pass one sign for each of them"))
}

/// What a row of two axes or one is.
fn rows_of(x: &Tensor) -> Result<usize, Problem> {
    x.dims().rank().checked_sub(1).ok_or_else(|| Problem::Shape("a scalar".into(), "pass vectors, [n, features]"))
}

impl Tensor {
    /// ln(1 + e^(-y x)) of scores x for targets y, -1 or 1, as `torch.nn.functional.soft_margin_loss`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn soft_margin_loss(&self, target: &Tensor, reduction: Reduction) -> Tensor {
        loss(
            "soft_margin_loss",
            &[self, target],
            || alike(self, target),
            |x| reduction.of(&(-(&x[0] * &x[1])).softplus()),
        )
    }

    /// Of distances x: x where the target is 1, max(0, margin - x) where it is -1, as
    /// `torch.nn.functional.hinge_embedding_loss`.
    ///
    /// # Errors
    /// As [`Tensor::soft_margin_loss`], and [`crate::Error::Value`] for a margin that is not finite.
    #[track_caller]
    pub fn hinge_embedding_loss(&self, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
        let check = || alike(self, target).and_then(|()| not_negative("the margin", margin.abs()));
        loss("hinge_embedding_loss", &[self, target], check, |inputs| {
            let (x, t) = (&inputs[0], &inputs[1]);
            let zero = x.device().fixed(&[], DType::F32, 0.0);
            let far = t.ne(1.0).where_(&(margin - x).relu(), &zero);
            reduction.of(&(far + t.ne(-1.0).where_(x, &zero)))
        })
    }

    /// max(0, margin - y (x - other)) for targets y: 1 where x should be the larger, -1 where `other` should; as
    /// `torch.nn.functional.margin_ranking_loss`.
    ///
    /// # Errors
    /// As [`Tensor::hinge_embedding_loss`], all three of one shape.
    #[track_caller]
    pub fn margin_ranking_loss(&self, other: &Tensor, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
        let check = || {
            alike(self, other)?;
            alike(self, target)?;
            not_negative("the margin", margin.abs())
        };
        loss("margin_ranking_loss", &[self, other, target], check, |x| {
            reduction.of(&(margin - &x[2] * (&x[0] - &x[1])).relu())
        })
    }

    /// Of vectors along the last axis and their cosine c with those of `other`: 1 - c where the target is 1,
    /// max(0, c - margin) where it is -1; `target` has the shape without the last axis. As
    /// `torch.nn.functional.cosine_embedding_loss`.
    ///
    /// # Errors
    /// As [`Tensor::hinge_embedding_loss`].
    #[track_caller]
    pub fn cosine_embedding_loss(&self, other: &Tensor, target: &Tensor, margin: f64, reduction: Reduction) -> Tensor {
        let check = || {
            alike(self, other)?;
            signs_fit(target, &self.dims()[..rows_of(self)?])?;
            not_negative("the margin", margin.abs())
        };
        loss("cosine_embedding_loss", &[self, other, target], check, |inputs| {
            let (x, y, t) = (&inputs[0], &inputs[1], &inputs[2]);
            let last = [x.dims().rank() - 1];
            let length = |x: &Tensor| (x.square().sum(&last) + 1e-12).sqrt();
            let cosine = (x * y).sum(&last) / (length(x) * length(y));
            let zero = x.device().fixed(&[], DType::F32, 0.0);
            let near = t.eq(1.0).where_(&(1.0 - &cosine), &zero);
            reduction.of(&(near + t.eq(-1.0).where_(&(cosine - margin).relu(), &zero)))
        })
    }

    /// Of anchors (this), along the last axis: max(0, margin + |a - p| - |a - n|), with the norm of the differences and eps,
    /// as `torch.nn.functional.triplet_margin_loss`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless all three have one shape of at least one axis,
    /// [`crate::Error::DType`] for integers, [`crate::Error::Value`] unless `p` is above 0 and margin and `eps` are not
    /// negative.
    #[track_caller]
    pub fn triplet_margin_loss(&self, positives: &Tensor, negatives: &Tensor, options: &TripletOptions) -> Tensor {
        let TripletOptions { margin, p, eps, swap, reduction } = *options;
        let check = || {
            alike(self, positives)?;
            alike(self, negatives)?;
            rows_of(self)?;
            positive("p", p)?;
            not_negative("the margin", margin)?;
            not_negative("eps", eps)
        };
        loss("triplet_margin_loss", &[self, positives, negatives], check, |x| {
            let distance = |from: &Tensor, to: &Tensor| {
                let difference = from - to + eps;
                let last = [difference.dims().rank() - 1];
                match p {
                    1.0 => difference.abs().sum(&last),
                    2.0 => difference.square().sum(&last).sqrt(),
                    _ => difference.abs().pow(p).sum(&last).pow(&difference.scalar(1.0 / p)),
                }
            };
            let mut far = distance(&x[0], &x[2]);
            if swap {
                far = far.minimum(&distance(&x[1], &x[2]));
            }
            reduction.of(&(distance(&x[0], &x[1]) - far + margin).relu())
        })
    }

    /// InfoNCE of queries, `[n, features]`, with keys of the same shape (van den Oord et al. 2018, "Representation learning
    /// with contrastive predictive coding"): the cross-entropy of the cosines of a query with all keys, over `temperature`,
    /// where the key of the same row is the right one.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one shape of two axes, [`crate::Error::DType`] for
    /// integers, [`crate::Error::Value`] unless the temperature is above 0.
    #[track_caller]
    pub fn info_nce_loss(&self, keys: &Tensor, temperature: f64, reduction: Reduction) -> Tensor {
        let check = || {
            alike(self, keys)?;
            positive("the temperature", temperature)?;
            match self.dims().rank() {
                2 => Ok(()),
                _ => Err(Problem::Shape(format!("queries {}", self.dims()), "pass [n, features]")),
            }
        };
        loss("info_nce_loss", &[self, keys], check, |x| {
            // Bounded below the root: the gradient of a row of zeros is 0.
            let unit = |x: &Tensor| x / x.square().sum_keep(&[1]).maximum(1e-24).sqrt();
            let logits = unit(&x[0]).matmul(&unit(&x[1]).transpose(0, 1)) * (1.0 / temperature);
            let rows = logits.device().arange(logits.dims()[0], DType::U32);
            reduction.of(&logits.cross_entropy_rows(&rows))
        })
    }
}
