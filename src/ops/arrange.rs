//! What is made of views, comparisons of indices and other ops: parts of matrices, repeated elements, grids.

use std::panic::Location;

use crate::device::Device;
use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::shape::Axis;
use crate::shape::MAX_RANK;
use crate::tensor::Tensor;

impl Device {
    /// The unit matrix of `rows` and `columns`: 1 on the diagonal, as `torch.eye`. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for a matrix without elements.
    #[track_caller]
    pub fn eye(&self, rows: usize, columns: usize, dtype: DType) -> Tensor {
        let across = self.arange(columns, DType::U32);
        let down = self.arange(rows, DType::U32).unsqueeze(1);
        down.eq(&across).cast(dtype)
    }

    /// `count` numbers from `first` to `last`, equally far apart, f32, as `torch.linspace`. Both travel as host numbers.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for a count of 0.
    #[track_caller]
    pub fn linspace(&self, first: f64, last: f64, count: usize) -> Tensor {
        if count == 1 {
            return self.full(&[1], first, DType::F32);
        }
        let (span, steps) = (last - first, count.saturating_sub(1) as f64);
        let number = self.arange(count, DType::F32);
        // From the nearer end, so that both ends are exact.
        let back = steps - &number;
        let is_near = number.lt(count as f64 / 2.0);
        is_near.where_(&(number * span / steps + first), &(last - back * span / steps))
    }
}

impl Tensor {
    /// This tensor with `value` where `mask`, bool, holds, as `torch.masked_fill`; the mask broadcasts.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] unless the mask is bool and the dtype holds the value, [`crate::Error::Shape`] where
    /// they do not broadcast.
    #[track_caller]
    pub fn masked_fill(&self, mask: &Tensor, value: f64) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        mask.where_(&Tensor::operand(self.device(), self.meta().dtype, value, "masked_fill"), self)
    }

    /// The last two axes with zeros above the diagonal that is `offset` above the main one (below it if negative), as `torch.tril`.
    /// Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for less than two axes.
    #[track_caller]
    pub fn tril(&self, offset: isize) -> Tensor {
        self.beside_diagonal("tril", offset, |x, offset| x.le(offset))
    }

    /// The last two axes with zeros below the diagonal that is `offset` above the main one (below it if negative), as `torch.triu`.
    /// Any dtype.
    ///
    /// # Errors
    /// As [`Tensor::tril`].
    #[track_caller]
    pub fn triu(&self, offset: isize) -> Tensor {
        self.beside_diagonal("triu", offset, |x, offset| x.ge(offset))
    }

    #[track_caller]
    fn beside_diagonal(&self, op: &'static str, offset: isize, keep: fn(&Tensor, f64) -> Tensor) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let &[.., rows, columns] = &self.dims()[..] else {
            let what = format!("shape {}", self.dims());
            return self.problem(op, Problem::Shape(what, "pass a matrix, or several"));
        };
        let device = self.device();
        let across = device.arange(columns, DType::I32);
        let down = device.arange(rows, DType::I32).unsqueeze(1);
        let zero = device.fixed(&[], self.meta().dtype, 0.0);
        keep(&(across - down), offset as f64).where_(self, &zero)
    }

    /// A matrix with this vector on the diagonal that is `offset` above the main one (below it if negative), zeros beside it: square,
    /// as `torch.diag` of a vector. Its inverse is [`Tensor::diagonal`]. Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless this has one axis.
    #[track_caller]
    pub fn diag(&self, offset: isize) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let &[length] = &self.dims()[..] else {
            let what = format!("shape {}", self.dims());
            return self.problem("diag", Problem::Shape(what, "pass a vector; `diagonal` takes one from a matrix"));
        };
        let device = self.device();
        let (down, right) = ((-offset).max(0) as usize, offset.max(0) as usize);
        let side = length.saturating_add(down).saturating_add(right);
        // Each row of it has one element at most.
        let of_row = self.pad(&[(down, right)], 0.0).unsqueeze(1);
        let across = device.arange(side, DType::I32);
        let below = device.arange(side, DType::I32).unsqueeze(1);
        let zero = device.fixed(&[], self.meta().dtype, 0.0);
        (across - below).eq(offset as f64).where_(&of_row, &zero)
    }

    /// Each element along `axis` `times` over, one behind the other, as `torch.repeat_interleave`. [`Tensor::tile`] repeats the whole.
    /// Any dtype.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::Shape`] for 8 axes, a number of 0, or
    /// what is too large.
    #[track_caller]
    pub fn repeat_interleave(&self, axis: impl Into<Axis>, times: usize) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "repeat_interleave";
        if self.error().is_some() {
            return self.clone();
        }
        let mut dims = self.dims().to_vec();
        if axis >= dims.len() {
            return self.problem(OP, Problem::Axis(axis, dims.len()));
        }
        if times == 0 || dims.len() == MAX_RANK {
            let what = format!("shape {} with each element {times} times", self.dims());
            return self.problem(OP, Problem::Shape(what, "repeat once or more, over less than 8 axes"));
        }
        let length = dims[axis];
        dims.insert(axis + 1, times);
        let stretched = self.unsqueeze(axis + 1).expand(&dims);
        dims.remove(axis + 1);
        dims[axis] = length.saturating_mul(times);
        stretched.reshape(&dims)
    }

    /// The products of each element of this vector with each of another: `[n, m]`, as `torch.outer`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have one axis, [`crate::Error::DType`] where they do not mix.
    #[track_caller]
    pub fn outer(&self, other: &Tensor) -> Tensor {
        for x in [self, other] {
            if x.error().is_some() {
                return x.clone();
            }
            if x.dims().rank() != 1 {
                let what = format!("shape {}", x.dims());
                return self.problem("outer", Problem::Shape(what, "pass two vectors"));
            }
        }
        self.unsqueeze(1).times(other)
    }

    /// The coordinates of a grid: each of the vectors stretched along the axis of its number, as `torch.meshgrid` with
    /// `indexing="ij"`.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Shape`] for what is no vector and for more than 8 of them, [`crate::Error::Value`] for none.
    #[track_caller]
    pub fn meshgrid(vectors: &[&Tensor]) -> Vec<Tensor> {
        const OP: &str = "meshgrid";
        let at = Location::caller();
        let Some(first) = vectors.first() else {
            let problem = Problem::Value("the list of vectors is empty".into(), "pass at least one vector");
            return vec![Tensor::invalid(&Device::cpu(), problem.at(OP, at), at)];
        };
        if let Some(broken) = vectors.iter().find(|x| x.error().is_some()) {
            return vec![(*broken).clone(); vectors.len()];
        }
        let no_vector = vectors.iter().find(|x| x.dims().rank() != 1);
        if no_vector.is_some() || vectors.len() > MAX_RANK {
            let what = match no_vector {
                Some(x) => format!("shape {}", x.dims()),
                None => format!("{} vectors", vectors.len()),
            };
            return vec![first.problem(OP, Problem::Shape(what, "pass at most 8 vectors")); vectors.len()];
        }
        let dims: Vec<usize> = vectors.iter().map(|x| x.dims()[0]).collect();
        let stretched = |(axis, x): (usize, &&Tensor)| {
            let mut own = vec![1; dims.len()];
            own[axis] = dims[axis];
            x.reshape(&own).expand(&dims)
        };
        vectors.iter().enumerate().map(stretched).collect()
    }
}

/// Cases of all of these.
pub(crate) fn cases() -> Vec<Case> {
    let of = |name: &str, shape: &[usize], build: fn(&[Tensor]) -> Tensor| {
        let case = Case::new(format!("Arrange/{name}"), build).normal(shape).tolerance(Tolerance::Exact);
        case.gradient_tolerance(Tolerance::Sum { terms: 37 })
    };
    let typed = |name: &str, dtype: DType, draw: Draw, build: fn(&[Tensor]) -> Tensor| {
        let case = Case::new(format!("Arrange/{name}"), build).input(&[5, 7], dtype, draw);
        case.tolerance(Tolerance::Exact).not_differentiable()
    };
    vec![
        of("tril", &[3, 37, 5], |x| x[0].tril(-1)),
        of("triu_of_transposed", &[37, 131], |x| x[0].transpose(0, 1).triu(2)),
        of("diag", &[37], |x| x[0].diag(-2)),
        of("repeat_interleave", &[3, 37, 5], |x| x[0].repeat_interleave(1, 3)),
        of("meshgrid", &[37], |x| Tensor::meshgrid(&[&x[0].slice(0, 0, 5), &x[0], &x[0].slice(0, 7, 1)])[1].clone()),
        of("outer", &[37], |x| x[0].outer(&x[0].slice(0, 3, 5))),
        of("masked_fill", &[37, 5], |x| x[0].masked_fill(&x[0].gt(0.0), -1.0)),
        of("linspace", &[37], |x| x[0].device().linspace(0.0, 36.0, 37) + &x[0].scale(0.0)),
        typed("tril_i32", DType::I32, Draw::Below(99), |x| x[0].tril(0)),
        typed("triu_bool", DType::Bool, Draw::Below(2), |x| x[0].triu(1)),
        typed("tril_f16", DType::F16, Draw::Normal, |x| x[0].tril(1)),
        typed("eye", DType::I32, Draw::Below(5), |x| x[0].device().eye(5, 7, DType::I32) * &x[0]),
    ]
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error, Tensor};

    #[test]
    fn what_does_not_fit_carries_errors() {
        let device = Device::cpu();
        let (vector, matrix) = (device.zeros(&[3]), device.zeros(&[2, 3]));
        assert!(matches!(vector.tril(0).error(), Some(Error::Shape { .. })));
        assert!(matches!(matrix.diag(0).error(), Some(Error::Shape { .. })));
        assert!(matches!(matrix.repeat_interleave(2, 1).error(), Some(Error::Axis { .. })));
        assert!(matches!(matrix.repeat_interleave(0, 0).error(), Some(Error::Shape { .. })));
        assert!(matches!(matrix.outer(&vector).error(), Some(Error::Shape { .. })));
        assert!(matches!(Tensor::meshgrid(&[])[0].error(), Some(Error::Value { .. })));
        assert!(matches!(Tensor::meshgrid(&[&vector, &matrix])[1].error(), Some(Error::Shape { .. })));
        assert!(matches!(matrix.masked_fill(&matrix, 0.0).error(), Some(Error::DType { .. })));
    }

    #[test]
    fn both_ends_of_equal_steps_are_exact() {
        let device = Device::cpu();
        assert_eq!(device.linspace(-1.0, 2.0, 4).to_vec::<f32>().unwrap(), [-1.0, 0.0, 1.0, 2.0]);
        assert_eq!(device.linspace(0.1, 0.7, 1).to_vec::<f32>().unwrap(), [0.1]);
        assert_eq!(device.eye(2, 3, DType::I32).to_vec::<i32>().unwrap(), [1, 0, 0, 0, 1, 0]);
    }
}
