//! Methods that say in terms of axes what a reshape or a permutation does.

use crate::error::Problem;
use crate::shape::Axis;
use crate::tensor::Tensor;

impl Tensor {
    /// Axes from `start` on merged into one; works on a tensor that carries an error too.
    #[track_caller]
    pub fn flatten(&self, start: impl Into<Axis>) -> Tensor {
        let dims = self.dims();
        let start = start.into().of(dims.rank());
        if self.error().is_none() && start >= dims.rank() {
            return self.problem("flatten", Problem::Axis(start, dims.rank()));
        }
        let start = start.min(dims.rank());
        let mut shape = dims[..start].to_vec();
        shape.push(dims[start..].iter().product());
        self.reshape(&shape)
    }

    /// Axes `a` and `b` exchanged.
    #[track_caller]
    pub fn transpose(&self, a: impl Into<Axis>, b: impl Into<Axis>) -> Tensor {
        let rank = self.dims().rank();
        let (a, b) = (a.into().of(rank), b.into().of(rank));
        if self.error().is_none() && a.max(b) >= rank {
            return self.problem("transpose", Problem::Axis(a.max(b), rank));
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        if a.max(b) < rank {
            axes.swap(a, b);
        }
        self.permute(&axes)
    }

    /// A new axis of length 1: `axis` of the result, so -1 puts it last.
    #[track_caller]
    pub fn unsqueeze(&self, axis: impl Into<Axis>) -> Tensor {
        let mut shape = self.dims().to_vec();
        let axis = axis.into().of(shape.len() + 1);
        if self.error().is_none() && axis > shape.len() {
            return self.problem("unsqueeze", Problem::Axis(axis, shape.len() + 1));
        }
        shape.insert(axis.min(shape.len()), 1);
        self.reshape(&shape)
    }

    /// Without `axis`, whose length is 1.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] or, for another length, [`crate::Error::Shape`].
    #[track_caller]
    pub fn squeeze(&self, axis: impl Into<Axis>) -> Tensor {
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if self.error().is_some() {
            return self.clone();
        }
        match dims.get(axis) {
            None => self.problem("squeeze", Problem::Axis(axis, dims.rank())),
            Some(1) => self.reshape(&[&dims[..axis], &dims[axis + 1..]].concat()),
            Some(length) => {
                let what = format!("axis {axis} of shape {dims} has length {length}, not 1");
                self.problem("squeeze", Problem::Shape(what, "squeeze axes of length 1, or reduce the axis"))
            }
        }
    }
}
