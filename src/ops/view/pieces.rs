//! Pieces of a tensor along an axis, and axes cut in several or moved.

use crate::error::Problem;
use crate::ops::shared::check_axis;
use crate::shape::Axis;
use crate::tensor::Tensor;

impl Tensor {
    /// Pieces along `axis`, `count` of them if there are so many: all of one length, the last perhaps shorter, as
    /// `torch.chunk`. Where they begin is part of the graph's structure, as with [`Tensor::split`].
    ///
    /// # Errors
    /// The only piece carries [`crate::Error::Axis`], or [`crate::Error::Value`] for no pieces or an axis of length 0.
    #[track_caller]
    pub fn chunk(&self, axis: impl Into<Axis>, count: usize) -> Vec<Tensor> {
        if self.error().is_some() {
            return vec![self.clone()];
        }
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if let Err(problem) = check_axis(axis, dims.rank()) {
            return vec![self.problem("chunk", problem)];
        }
        let length = dims[axis];
        if count == 0 || length == 0 {
            let what = format!("{count} pieces of axis {axis} of shape {dims}");
            return vec![
                self.problem("chunk", Problem::Value(what, "ask for at least one piece of an axis with elements")),
            ];
        }
        let each = length.div_ceil(count);
        let sizes: Vec<usize> = (0..length).step_by(each).map(|start| each.min(length - start)).collect();
        self.split(axis, &sizes)
    }

    /// Element `index` of `axis`, which is removed; `index` counts from either end, as an axis does: `x.select(1, -1)` is the
    /// last of axis 1. As `torch.select`. Where it lies travels as a host number: another index makes no new plan.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], or [`crate::Error::Value`] if the index leaves the axis.
    #[track_caller]
    pub fn select(&self, axis: impl Into<Axis>, index: impl Into<Axis>) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if let Err(problem) = check_axis(axis, dims.rank()) {
            return self.problem("select", problem);
        }
        let at = index.into().of(dims[axis]);
        if at >= dims[axis] {
            let what = format!("element {} of axis {axis} of shape {dims}", Axis::said(at, dims[axis]));
            return self.problem("select", Problem::Value(what, "elements count from 0, or back from -1"));
        }
        self.slice(axis, at, 1).squeeze(axis)
    }

    /// All elements of `axis`, each without it, as `torch.unbind`.
    ///
    /// # Errors
    /// The only piece carries [`crate::Error::Axis`], or [`crate::Error::Value`] for an axis of length 0.
    #[track_caller]
    pub fn unbind(&self, axis: impl Into<Axis>) -> Vec<Tensor> {
        let axis = axis.into();
        let length = self.dims().get(axis.of(self.dims().rank())).map_or(1, |&length| length);
        let pieces = self.chunk(axis, length);
        if pieces.iter().any(|piece| piece.error().is_some()) {
            return pieces;
        }
        let axis = axis.of(self.dims().rank());
        let mut bare = Vec::with_capacity(pieces.len());
        for piece in pieces {
            bare.push(piece.squeeze(axis));
        }
        bare
    }

    /// `axis` cut into axes of these lengths, as `torch.unflatten`: the reverse of [`Tensor::flatten`].
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], or [`crate::Error::Shape`] unless the product of `sizes` is the axis' length.
    #[track_caller]
    pub fn unflatten(&self, axis: impl Into<Axis>, sizes: &[usize]) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if let Err(problem) = check_axis(axis, dims.rank()) {
            return self.problem("unflatten", problem);
        }
        let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if product != Some(dims[axis]) {
            let what = format!("axis {axis} of shape {dims} has not the product of {sizes:?} elements");
            return self.problem("unflatten", Problem::Shape(what, "pass sizes whose product is the axis' length"));
        }
        self.reshape(&[&dims[..axis], sizes, &dims[axis + 1..]].concat())
    }

    /// Axis `from` moved to be axis `to` of the result, the others in their order, as `torch.movedim`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range.
    #[track_caller]
    pub fn movedim(&self, from: impl Into<Axis>, to: impl Into<Axis>) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let rank = self.dims().rank();
        let (from, to) = (from.into().of(rank), to.into().of(rank));
        if let Err(problem) = check_axis(from, rank).and(check_axis(to, rank)) {
            return self.problem("movedim", problem);
        }
        let mut axes: Vec<usize> = (0..rank).collect();
        let axis = axes.remove(from);
        axes.insert(to, axis);
        self.permute(&axes)
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error, Result, Tensor};

    fn x() -> Tensor {
        Device::cpu().arange(24, DType::F32).reshape(&[2, 3, 4])
    }

    #[test]
    fn pieces_have_their_elements() -> Result<()> {
        let lengths = |count| x().chunk(-1, count).iter().map(|piece| piece.dims()[2]).collect::<Vec<_>>();
        assert_eq!([lengths(1), lengths(3), lengths(9)], [vec![4], vec![2, 2], vec![1; 4]]);
        assert_eq!(x().select(1, -1).select(0, 0).to_vec::<f32>()?, [8.0, 9.0, 10.0, 11.0]);
        let rows = x().unbind(1);
        assert_eq!((rows.len(), rows[1].shape()?), (3, &[2, 4][..]));
        assert_eq!(rows[1].to_vec::<f32>()?, x().select(1, 1).to_vec::<f32>()?);
        let cut = x().unflatten(-1, &[2, 2]).select(-1, 1).select(-1, 0);
        assert_eq!(cut.to_vec::<f32>()?, x().select(2, 1).to_vec::<f32>()?);
        Ok(())
    }

    #[test]
    fn moving_an_axis_keeps_the_order_of_the_others() -> Result<()> {
        assert_eq!(x().movedim(0, -1).shape()?, [3, 4, 2]);
        assert_eq!(x().movedim(-1, 0).to_vec::<f32>()?, x().permute(&[2, 0, 1]).to_vec::<f32>()?);
        Ok(())
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let bad = [
            x().movedim(3, 0),
            x().select(3, 0),
            x().unflatten(-4, &[2]),
            x().unbind(3).remove(0),
            x().chunk(3, 1).remove(0),
        ];
        assert!(bad.iter().all(|x| matches!(x.error(), Some(Error::Axis { .. }))));
        let bad = [x().select(0, 2), x().select(0, -3), x().chunk(0, 0).remove(0)];
        assert!(bad.iter().all(|x| matches!(x.error(), Some(Error::Value { .. }))));
        assert!(matches!(x().unflatten(2, &[3, 2]).error(), Some(Error::Shape { .. })));
    }
}
