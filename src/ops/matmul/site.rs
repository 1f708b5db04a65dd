//! A product as its kernels see it: sizes, and operands that are given by their strides.

use crate::dtype::DType;
use crate::layout::Meta;
use crate::ops::product::Product;
use crate::ops::tiles::Sizes;

/// An axis of a matrix of a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    /// The one that is summed over.
    Depth,
    /// Its rows of the left, its columns of the right.
    Own,
}

/// A matrix that is multiplied: the input that it is, its first element, and the strides of its two batch axes, its rows and its
/// columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub input: usize,
    pub meta: Meta,
    pub start: usize,
    pub strides: [usize; 4],
}

impl Matrix {
    pub(super) fn turned(self) -> Matrix {
        let [outer, inner, row, column] = self.strides;
        Matrix { strides: [outer, inner, column, row], ..self }
    }
}

/// `a` x `b` for each of `batch` matrices.
pub(crate) struct Site {
    pub precision: Product,
    pub sizes: Sizes,
    pub batch: [usize; 2],
    pub a: Matrix,
    pub b: Matrix,
    pub output: Meta,
    /// True if the sum stays whole, for who adds no parts.
    pub whole: bool,
}

impl Site {
    /// The contiguous axis of each operand, if it can be read `width` elements at a time.
    pub(super) fn contiguous(&self, width: usize) -> [Option<Axis>; 2] {
        let Site { a, b, sizes, .. } = self;
        let along = |of: &Matrix, own: usize, length: usize, k: usize| {
            let [outer, inner, ..] = of.strides;
            contiguous(width, of.start, [outer, inner], [(length, of.strides[own]), (sizes.depth, of.strides[k])])
        };
        [along(a, 2, sizes.rows, 3), along(b, 3, sizes.columns, 2)]
    }

    /// True if both operands can be read four elements at a time.
    pub(super) fn is_in_fours(&self) -> bool {
        self.contiguous(4).iter().all(Option::is_some)
    }

    /// True if the operands are f32, and both can be read eight elements at a time, the left along k.
    pub(super) fn is_in_eights(&self) -> bool {
        let full = !self.precision.half && [&self.a, &self.b].iter().all(|matrix| matrix.meta.dtype == DType::F32);
        full && matches!(self.contiguous(8), [Some(Axis::Depth), Some(_)])
    }

    /// The shorter side of the result.
    pub(super) fn shorter(&self) -> usize {
        self.sizes.rows.min(self.sizes.columns)
    }

    /// True if the result has a few rows or a few columns.
    pub(super) fn is_thin(&self) -> bool {
        self.shorter() <= 4
    }

    /// True for a weight of up to 32 x 32 and any batch, which is the rows of the result and of the gradient that a layer passes on, and
    /// the depth of the weight's gradient, whose left operand is transposed.
    pub(super) fn is_small(&self) -> bool {
        let is_transposed = self.a.strides[2] == 1 && self.a.strides[3] != 1;
        let weight = if is_transposed { self.sizes.rows } else { self.sizes.depth };
        self.sizes.batches == 1 && self.sizes.columns <= 32 && weight <= 32
    }
}

/// As [`Site::contiguous`], of one operand: `axes` are (length, stride) of its own axis and of the depth.
fn contiguous(width: usize, start: usize, batches: [usize; 2], axes: [(usize, usize); 2]) -> Option<Axis> {
    let even = |x: usize| x.is_multiple_of(width);
    if !(even(start) && batches.into_iter().all(even)) {
        return None;
    }
    match axes {
        [(_, stride), (depth, 1)] if even(depth) && even(stride) => Some(Axis::Depth),
        [(length, 1), (_, stride)] if even(length) && even(stride) => Some(Axis::Own),
        _ => None,
    }
}
