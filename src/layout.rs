//! How the elements of a tensor lie: shape, dtype, strides.

use crate::dtype::DType;
use crate::shape::{MAX_RANK, Shape};

/// Shape and dtype of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Axis lengths.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Meta {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }
}

/// How a view finds its elements in its input, without a copy.
#[derive(Debug, Clone, PartialEq)]
pub enum ViewKind {
    /// Same elements in the same order.
    Reshape,
    /// Output axis `i` is input axis `axes[i]`.
    Permute(Vec<usize>),
    /// Axes of length 1 stretched, new axes in front.
    Expand,
    /// `length` elements of `axis` from the host number in input 1.
    Slice {
        /// The axis.
        axis: usize,
    },
    /// Input 0 itself, to be read only once input 1 has been computed.
    After,
}

/// Element with multi-index `i` of `shape` lies at `offset + sum(i * strides) + sum(dynamic operand * stride)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Strided {
    /// Axis lengths.
    pub shape: Shape,
    /// Elements between neighbours along each axis; 0 where an axis is stretched.
    pub strides: Vec<usize>,
    /// Element of the all-zero index.
    pub offset: usize,
    /// Host numbers (graph nodes) that shift the start, with the stride each is multiplied by.
    pub dynamic: Vec<(usize, usize)>,
}

/// What consecutive elements of a view are in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Side by side, from a multiple of their number on.
    SideBySide,
    /// One element.
    Same,
    /// Neither.
    Scattered,
}

impl Strided {
    /// The map of a tensor stored row-major.
    pub fn contiguous(shape: Shape) -> Strided {
        Strided { shape, strides: shape.strides(), offset: 0, dynamic: vec![] }
    }

    /// True if every element lies where row-major order puts it.
    pub fn is_identity(&self) -> bool {
        self.offset == 0 && self.dynamic.is_empty() && self.is_linear()
    }

    /// What `count` consecutive elements of the view, from a multiple of `count` on, are.
    pub fn run(&self, count: usize) -> Run {
        let axes = self.merged();
        if axes.last().is_some_and(|&(dim, _)| dim % count != 0) {
            return Run::Scattered;
        }
        if axes.last().is_none_or(|&(_, stride)| stride == 0) {
            return Run::Same;
        }
        let aligned = axes.iter().rev().skip(1).all(|&(_, stride)| stride % count == 0)
            && self.offset.is_multiple_of(count)
            && self.dynamic.is_empty();
        match aligned && axes.last().is_some_and(|&(_, stride)| stride == 1) {
            true => Run::SideBySide,
            false => Run::Scattered,
        }
    }

    fn is_linear(&self) -> bool {
        let natural = self.shape.strides();
        self.shape.iter().zip(&self.strides).zip(&natural).all(|((&dim, stride), want)| dim == 1 || stride == want)
    }

    /// The map of a view of this one; `operand` is the node of a slice's start. `None` if a copy is needed.
    pub fn view(&self, kind: &ViewKind, shape: Shape, operand: Option<usize>) -> Option<Strided> {
        let mut view = self.clone();
        match kind {
            ViewKind::Permute(axes) => view.strides = axes.iter().map(|&axis| self.strides[axis]).collect(),
            ViewKind::Expand => view = self.expand(shape),
            ViewKind::Slice { axis } => view.dynamic.push((operand?, self.strides[*axis])),
            ViewKind::Reshape => return self.reshape(shape),
            ViewKind::After => {}
        }
        view.shape = shape;
        Some(view)
    }

    /// Stretched to `shape`, aligned at the last axis.
    pub fn expand(&self, shape: Shape) -> Strided {
        let lead = shape.rank() - self.shape.rank();
        let strides = (0..shape.rank())
            .map(|axis| if axis < lead || self.shape[axis - lead] == 1 { 0 } else { self.strides[axis - lead] })
            .collect();
        Strided { shape, strides, offset: self.offset, dynamic: self.dynamic.clone() }
    }

    /// As `shape`, if each run of axes that changes is laid out without gaps.
    fn reshape(&self, shape: Shape) -> Option<Strided> {
        let axes = self.merged();
        let mut strides = vec![0; shape.rank()];
        // Walk both shapes from the last axis; each new axis must divide into one merged axis.
        let mut rest = axes.iter().rev();
        let mut current = rest.next().copied();
        let mut left = current.map_or(1, |(dim, _)| dim);
        let mut step = current.map_or(0, |(_, stride)| stride);
        for axis in (0..shape.rank()).rev() {
            if shape[axis] == 1 {
                continue;
            }
            if left == 1 {
                current = rest.next().copied();
                (left, step) = current?;
            }
            if left % shape[axis] != 0 {
                return None;
            }
            strides[axis] = step;
            left /= shape[axis];
            step *= shape[axis];
        }
        Some(Strided { shape, strides, offset: self.offset, dynamic: self.dynamic.clone() })
    }

    /// Axes as (length, stride), outermost first, without ones and with neighbours merged where they are laid out as
    /// one.
    pub fn merged(&self) -> Vec<(usize, usize)> {
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(MAX_RANK);
        for (&dim, &stride) in self.shape.iter().zip(&self.strides) {
            if dim == 1 {
                continue;
            }
            match merged.last_mut() {
                Some(last) if last.1 == dim * stride => *last = (last.0 * dim, stride),
                _ => merged.push((dim, stride)),
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims).unwrap()
    }

    #[test]
    fn a_transposed_matrix_cannot_be_flattened_without_a_copy() {
        let matrix = Strided::contiguous(shape(&[3, 5]));
        let turned = matrix.view(&ViewKind::Permute(vec![1, 0]), shape(&[5, 3]), None).unwrap();
        assert_eq!(turned.strides, [1, 5]);
        assert_eq!(turned.view(&ViewKind::Reshape, shape(&[15]), None), None);
        assert!(matrix.view(&ViewKind::Reshape, shape(&[15, 1]), None).unwrap().is_identity());
    }

    #[test]
    fn a_stretched_bias_merges_to_three_axes() {
        let bias = Strided::contiguous(shape(&[1, 16, 1, 1])).expand(shape(&[64, 16, 28, 28]));
        assert_eq!(bias.merged(), [(64, 0), (16, 1), (784, 0)]);
        let flat = bias.view(&ViewKind::Reshape, shape(&[64, 16, 784]), None).unwrap();
        assert_eq!(flat.strides, [0, 1, 0]);
    }
}
