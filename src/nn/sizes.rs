//! Sizes along the axes of an image, as layers take them.

/// A size for each of `D` axes, outermost first. Methods take `impl Into<Sizes<D>>`: `3` for all axes, or `[3, 5]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes<const D: usize>(pub [usize; D]);

impl<const D: usize> From<usize> for Sizes<D> {
    fn from(size: usize) -> Sizes<D> {
        Sizes([size; D])
    }
}

impl<const D: usize> From<[usize; D]> for Sizes<D> {
    fn from(sizes: [usize; D]) -> Sizes<D> {
        Sizes(sizes)
    }
}
