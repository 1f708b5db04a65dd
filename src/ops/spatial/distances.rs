//! Lengths of vectors and what is between them. Sums of powers are formed in f32 for f16; where a length is 0, its gradient is 0.

use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::shape::Axis;
use crate::tensor::Tensor;

impl Tensor {
    /// Divided by the larger of `epsilon` and the length along `axis`, (sum of |x|^`p`)^(1/`p`): as
    /// `torch.nn.functional.normalize`, whose defaults are p 2, axis 1, epsilon 1e-12. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], [`crate::Error::Value`] unless `p` is positive, [`crate::Error::DType`] for
    /// integers.
    #[track_caller]
    pub fn normalize(&self, p: f64, axis: impl Into<Axis>, epsilon: f64) -> Tensor {
        if let Some(broken) = self.no_power("normalize", p) {
            return broken;
        }
        let axis = axis.into().of(self.dims().rank());
        self.formed_wide(|x| x / x.length_keep(p, axis).maximum(&x.scalar(epsilon)))
    }

    /// Cosine of the angle to `other` along `axis`, which is removed; lengths below `epsilon` count as it. Shapes broadcast. As
    /// `torch.nn.functional.cosine_similarity`, whose defaults are axis 1, epsilon 1e-8. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], [`crate::Error::Shape`] or [`crate::Error::DType`].
    #[track_caller]
    pub fn cosine_similarity(&self, other: &Tensor, axis: impl Into<Axis>, epsilon: f64) -> Tensor {
        if let Some(broken) = [self, other].iter().find_map(|x| x.no_power("cosine_similarity", 2.0)) {
            return broken;
        }
        // An axis counts in the shape that both stretch to.
        let rank = self.dims().rank().max(other.dims().rank());
        let axis = axis.into().of(rank);
        self.loss_formed_wide(other, |a, b| {
            let full = |x: &Tensor| x.reshape(&[&vec![1; rank - x.dims().rank()], &x.dims()[..]].concat());
            let [a, b] = [full(a), full(b)].map(|x| &x / x.length_keep(2.0, axis).maximum(&x.scalar(epsilon)));
            (a * b).sum(&[axis])
        })
    }

    /// Length of the difference from `other` plus `epsilon` along the last axis, which is removed: (sum of
    /// |a - b + epsilon|^`p`)^(1/`p`), as `torch.nn.functional.pairwise_distance`, whose defaults are p 2, epsilon 1e-6.
    /// Shapes broadcast. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`], or [`crate::Error::Value`] unless `p` is positive.
    #[track_caller]
    pub fn pairwise_distance(&self, other: &Tensor, p: f64, epsilon: f64) -> Tensor {
        const OP: &str = "pairwise_distance";
        if let Some(broken) = [self, other].iter().find_map(|x| x.no_power(OP, p)) {
            return broken;
        }
        self.loss_formed_wide(other, |a, b| {
            let apart = (a - b).offset(epsilon);
            match apart.dims().rank().checked_sub(1) {
                _ if apart.error().is_some() => apart,
                Some(last) => apart.length_keep(p, last).squeeze(last),
                None => apart.problem(OP, Problem::Shape("scalars".into(), "pass vectors, the last axis along them")),
            }
        })
    }

    /// Distances between each row of this `[.., rows, m]` and each of `other` `[.., others, m]`: `[.., rows, others]`, each
    /// (sum of |a - b|^`p`)^(1/`p`), as `torch.cdist`. Formed of differences, not of products: near rows lose no digits.
    /// The leading axes broadcast. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`], or [`crate::Error::Value`] unless `p` is positive.
    #[track_caller]
    pub fn cdist(&self, other: &Tensor, p: f64) -> Tensor {
        const OP: &str = "cdist";
        if let Some(broken) = [self, other].iter().find_map(|x| x.no_power(OP, p)) {
            return broken;
        }
        let (a, b) = (*self.dims(), *other.dims());
        if a.rank() < 2 || b.rank() < 2 || a[a.rank() - 1] != b[b.rank() - 1] || a.rank().max(b.rank()) > 7 {
            let what = format!("rows of shape {a} and {b}");
            return self.problem(OP, Problem::Shape(what, "pass [.., rows, m] twice, with one m"));
        }
        self.loss_formed_wide(other, |x, y| {
            let apart = x.unsqueeze(a.rank() - 1) - y.unsqueeze(b.rank() - 2);
            if apart.error().is_some() {
                return apart;
            }
            let last = apart.dims().rank() - 1;
            apart.length_keep(p, last).squeeze(last)
        })
    }

    /// A broken tensor unless this one has lengths of power `p`.
    #[track_caller]
    fn no_power(&self, op: &'static str, p: f64) -> Option<Tensor> {
        if self.error().is_some() {
            return Some(self.clone());
        }
        if p.is_nan() || p <= 0.0 {
            return Some(self.problem(op, Problem::Value(format!("a power of {p}"), "pass a number above 0")));
        }
        let dtype = self.meta().dtype;
        (!dtype.is_float()).then(|| self.problem(op, Problem::DType(format!("it takes floats, not {dtype}"))))
    }

    /// (sum of |x|^p)^(1/p) along `axis`, which stays with length 1; the largest |x| for an infinite p.
    #[track_caller]
    fn length_keep(&self, p: f64, axis: usize) -> Tensor {
        match p {
            f64::INFINITY => self.abs().max_keep(&[axis]),
            2.0 => self.square().sum_keep(&[axis]).root_of(2.0),
            _ => self.abs().power_of(p).sum_keep(&[axis]).root_of(p),
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let bound = Tolerance::Pointwise { absolute: 2e-5, relative: 2e-5 };
    let away = Draw::Uniform(0.1, 2.0);
    vec![
        Case::new("normalize", |x| x[0].normalize(2.0, 1, 1e-12)).normal(&[3, 37, 5]).tolerance(bound),
        Case::new("normalize_cubes", |x| x[0].transpose(0, 1).normalize(3.0, 0, 1e-12))
            .input(&[7, 131], DType::F32, away.clone())
            .tolerance(bound),
        Case::new("cosine_similarity", |x| x[0].cosine_similarity(&x[1], 1, 1e-8))
            .normal(&[5, 37])
            .normal(&[1, 37])
            .tolerance(bound),
        Case::new("pairwise_distance", |x| x[0].pairwise_distance(&x[1], 2.0, 1e-6))
            .normal(&[5, 37])
            .normal(&[5, 37])
            .tolerance(bound),
        Case::new("cdist", |x| x[0].cdist(&x[1], 2.0)).normal(&[2, 5, 7]).normal(&[2, 11, 7]).tolerance(bound),
        Case::new("cdist_of_differences", |x| x[0].cdist(&x[1], 1.0))
            .normal(&[3, 131])
            .normal(&[5, 131])
            .tolerance(Tolerance::Pointwise { absolute: 2e-4, relative: 2e-5 }),
        // A vector of zeros has a length without a slope.
        Case::new("zeros", |x| x[0].normalize(2.0, 1, 1e-3) + x[0].cdist(&x[0], 2.0))
            .input(&[3, 3], DType::F32, Draw::Values(&[0.0, 0.0, 0.0, 1.0, 2.0, -3.0, 0.0, 0.0, 1.0]))
            .tolerance(bound),
    ]
}
