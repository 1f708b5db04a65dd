//! Shapes: up to [`MAX_RANK`] axis lengths, stored inline.

use std::fmt;
use std::ops::Deref;

/// Largest number of axes of a tensor.
pub const MAX_RANK: usize = 8;

/// Axis lengths of a tensor, outermost first; row-major ("C") order throughout.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; MAX_RANK],
    rank: u8,
}

impl Shape {
    /// The shape with these axis lengths.
    ///
    /// # Errors
    /// `None` if there are more than [`MAX_RANK`] axes or the number of elements does not fit in 32 bits.
    pub fn new(dims: &[usize]) -> Option<Shape> {
        if dims.len() > MAX_RANK {
            return None;
        }
        let mut elements = 1usize;
        for &dim in dims {
            // A length of 0 does not excuse the others: strides are products of them.
            elements = elements.checked_mul(dim.max(1)).filter(|&n| n <= u32::MAX as usize)?;
        }
        let mut shape = Shape { dims: [0; MAX_RANK], rank: dims.len() as u8 };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Some(shape)
    }

    /// The shape of a scalar: no axes, one element.
    pub const SCALAR: Shape = Shape { dims: [0; MAX_RANK], rank: 0 };

    /// Number of axes.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1; self.rank()];
        for axis in (1..self.rank()).rev() {
            strides[axis - 1] = strides[axis] * self[axis];
        }
        strides
    }

    /// The same shape with `axes` set to length 1.
    pub(crate) fn keep(&self, axes: &[usize]) -> Shape {
        let mut shape = *self;
        for &axis in axes {
            shape.dims[axis] = 1;
        }
        shape
    }

    /// The shape that both broadcast to (aligned at the last axis; a length of 1 stretches), as in NumPy.
    pub fn broadcast(&self, other: &Shape) -> Option<Shape> {
        let rank = self.rank().max(other.rank());
        let mut dims = [0; MAX_RANK];
        for back in 1..=rank {
            let left = if back <= self.rank() { self[self.rank() - back] } else { 1 };
            let right = if back <= other.rank() { other[other.rank() - back] } else { 1 };
            dims[rank - back] = match (left, right) {
                (1, n) | (n, 1) => n,
                (l, r) if l == r => l,
                _ => return None,
            };
        }
        Shape::new(&dims[..rank])
    }
}

/// An axis of a tensor, counted from 0 at the front, or from -1 at the back towards the front. Methods take
/// `impl Into<Axis>`: any integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Axis(isize);

impl Axis {
    /// Its place from the front among `rank` axes. Beyond both ends it is not below `rank` ([`Axis::said`] has it back).
    pub(crate) fn of(self, rank: usize) -> usize {
        if self.0 < 0 { rank.wrapping_add_signed(self.0) } else { self.0 as usize }
    }

    /// The number that was passed where [`Axis::of`] gave `axis`, if that is out of range.
    pub(crate) fn said(axis: usize, rank: usize) -> isize {
        let axis = axis as isize;
        if axis < 0 { axis.wrapping_sub_unsigned(rank) } else { axis }
    }
}

macro_rules! axis {
    ($($integer:ty),+) => { $(
        impl From<$integer> for Axis {
            fn from(axis: $integer) -> Axis {
                Axis(isize::try_from(axis).unwrap_or(isize::MAX))
            }
        }
    )+ };
}

axis!(usize, isize, i32, i64, u32);

/// Several axes: a slice, an array or a vector of integers by reference, or one axis. `&[0, -1]`, `&axes`, `-1`.
pub trait Axes {
    /// The places from the front among `rank` axes, in the order given.
    fn of(&self, rank: usize) -> Vec<usize>;
}

impl<A: Into<Axis> + Copy> Axes for &[A] {
    fn of(&self, rank: usize) -> Vec<usize> {
        self.iter().map(|&axis| axis.into().of(rank)).collect()
    }
}

impl<A: Into<Axis> + Copy, const N: usize> Axes for &[A; N] {
    fn of(&self, rank: usize) -> Vec<usize> {
        self.as_slice().of(rank)
    }
}

impl<A: Into<Axis> + Copy> Axes for &Vec<A> {
    fn of(&self, rank: usize) -> Vec<usize> {
        self.as_slice().of(rank)
    }
}

macro_rules! one_axis {
    ($($integer:ty),+) => { $(
        impl Axes for $integer {
            fn of(&self, rank: usize) -> Vec<usize> {
                vec![Axis::from(*self).of(rank)]
            }
        }
    )+ };
}

one_axis!(usize, isize, i32, i64, u32);

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_stretches_ones_and_rejects_the_rest() {
        let shape = |dims: &[usize]| Shape::new(dims).unwrap();
        assert_eq!(shape(&[3, 1, 5]).broadcast(&shape(&[4, 1])), Some(shape(&[3, 4, 5])));
        assert_eq!(shape(&[3]).broadcast(&shape(&[4])), None);
        assert_eq!(shape(&[0]).broadcast(&shape(&[1])), Some(shape(&[0])));
    }

    #[test]
    fn a_shape_beyond_32_bits_is_refused() {
        assert_eq!(Shape::new(&[1 << 20, 1 << 20]), None);
        assert_eq!(Shape::new(&[0, 1 << 20, 1 << 20]), None);
        assert_eq!(Shape::new(&[1; MAX_RANK + 1]), None);
    }

    #[test]
    fn axes_count_from_either_end() {
        let n: usize = 1;
        let places = [Axis::from(1).of(3), Axis::from(-1).of(3), Axis::from(-3i64).of(3), Axis::from(n).of(3)];
        assert_eq!(places, [1, 2, 0, 1]);
        assert_eq!(
            [(&[0, -1]).of(2), (&vec![n]).of(2), (&[n][..]).of(2), (-2).of(2)],
            [vec![0, 1], vec![1], vec![1], vec![0]]
        );
        for said in [-4, 3, isize::MIN, isize::MAX] {
            let axis = Axis::from(said).of(3);
            assert!(axis >= 3);
            assert_eq!(Axis::said(axis, 3), said);
        }
    }
}
