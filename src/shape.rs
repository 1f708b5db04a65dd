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
}
