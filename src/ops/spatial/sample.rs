//! Images sampled at places that a grid names, and grids of affine maps (Jaderberg et al. 2015).
//!
//! Pixels are rows of a table, which the four neighbours of each place pick: the gradient of the image is that of picked rows,
//! which add up in a fixed order.

use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

/// How a value between pixels is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SampleMode {
    /// The four pixels around, by their distance.
    #[default]
    Bilinear,
    /// The nearest pixel; of two as near, the even one. No gradient flows to the grid.
    Nearest,
}

/// What lies around an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SamplePadding {
    /// Zeros.
    #[default]
    Zeros,
    /// The pixels at its border.
    Border,
    /// The image, reflected at its borders as often as it takes.
    Reflection,
}

/// What is not the same for every sampling. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GridSampleOptions {
    /// How a value between pixels is found.
    pub mode: SampleMode,
    /// What lies around the image.
    pub padding: SamplePadding,
    /// True if -1 and 1 are the middles of the first and last pixels, else their outer edges.
    pub align_corners: bool,
}

impl Tensor {
    /// Values of this image `[N, C, H, W]` at the places of `grid` `[N, OH, OW, 2]`: `[N, C, OH, OW]`, as
    /// `torch.nn.functional.grid_sample`. A place is (x, y) from -1 (left, top) to 1 (right, bottom); one that is NaN gives
    /// NaN. Both f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for other shapes, [`crate::Error::DType`] unless both are of one float
    /// dtype.
    #[track_caller]
    pub fn grid_sample(&self, grid: &Tensor, options: &GridSampleOptions) -> Tensor {
        const OP: &str = "grid_sample";
        if let Some(broken) = [self, grid].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let (x, places) = (*self.dims(), *grid.dims());
        let fits = x.rank() == 4 && places.rank() == 4 && x[0] == places[0] && places[3] == 2;
        if !fits || x.elements() >= 1 << 31 {
            let what = format!("an image of shape {x} and a grid of shape {places}");
            return self.problem(OP, Problem::Shape(what, "pass [N, C, H, W] and [N, OH, OW, 2]"));
        }
        let dtype = self.meta().dtype;
        if !dtype.is_float() || grid.meta().dtype != dtype {
            let what =
                format!("it takes an image and a grid of one float dtype, not {dtype} and {}", grid.meta().dtype);
            return self.problem(OP, Problem::DType(what));
        }
        let [batch, channels, height, width] = [x[0], x[1], x[2], x[3]];
        let table = self.widen().permute(&[0, 2, 3, 1]).reshape(&[batch * height * width, channels]);
        let grid = grid.widen();
        let coordinate = |number: usize, size: usize| {
            let at = grid.slice_fixed(3, number, 1).reshape(&places[..3]);
            place(&at, size, options)
        };
        let columns = neighbours(&coordinate(0, width), width, options.mode);
        let rows = neighbours(&coordinate(1, height), height, options.mode);
        let whole = |number: usize| self.device().fixed(&[], DType::I32, number as f64);
        let image = self.device().arange(batch, DType::I32).reshape(&[batch, 1, 1]) * whole(height * width);
        let count = places[..3].iter().product();
        let picked =
            rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column))).map(|(row, column)| {
                let index = (&image + &row.at * whole(width) + &column.at).reshape(&[count]);
                let weight = &row.weight * &column.weight;
                table.index_select(0, &index) * weight.reshape(&[count, 1])
            });
        let Some(sum) = picked.reduce(|sum, next| sum + next) else { return self.clone() };
        let sampled = sum.reshape(&[batch, places[1], places[2], channels]).permute(&[0, 3, 1, 2]);
        sampled.cast(dtype)
    }

    /// The places that affine maps `[N, 2, 3]` (or `[N, 3, 4]`) send the pixels of an image of `size`, `[N, C, H, W]` (or
    /// `[N, C, D, H, W]`), to: `[N, H, W, 2]` (or `[N, D, H, W, 3]`), as `torch.nn.functional.affine_grid`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless maps and size fit, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn affine_grid(&self, size: &[usize], align_corners: bool) -> Tensor {
        const OP: &str = "affine_grid";
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        let axes = size.len().saturating_sub(2);
        if !(2..=3).contains(&axes) || dims[..] != [size[0], axes, axes + 1] || size.contains(&0) {
            let what = format!("maps of shape {dims} for images of shape {size:?}");
            return self.problem(OP, Problem::Shape(what, "pass [N, 2, 3] and [N, C, H, W], or one axis more"));
        }
        if !self.meta().dtype.is_float() {
            return self.problem(OP, Problem::DType(format!("it takes floats, not {}", self.meta().dtype)));
        }
        let lengths = &size[2..];
        self.formed_wide(|maps| {
            // The place of each pixel along an axis, as it stands among the axes of the grid.
            let base = |axis: usize| {
                let length = lengths[axis];
                let steps = if align_corners { length - 1 } else { length };
                let scale = if steps == 0 { 0.0 } else { 2.0 / steps as f64 };
                let numbers = maps.device().arange(length, DType::F32);
                let mut shape = vec![1; axes + 1];
                shape[1 + axis] = length;
                numbers.offset(-((length - 1) as f64) / 2.0).scale(scale).reshape(&shape)
            };
            let entry = |row: usize, column: usize| {
                let entry = maps.slice_fixed(1, row, 1).slice_fixed(2, column, 1);
                entry.reshape(&[&[size[0]][..], &vec![1; axes]].concat())
            };
            let full = [&size[..1], lengths].concat();
            let rows = (0..axes).map(|row| {
                // The first coordinate of a place is along the last axis.
                let moved = (0..axes).map(|column| entry(row, column) * base(axes - 1 - column));
                moved.fold(entry(row, axes), |sum, term| sum + term).expand(&full)
            });
            let rows: Vec<Tensor> = rows.collect();
            Tensor::stack(&rows.iter().collect::<Vec<_>>(), axes + 1)
        })
    }
}

/// Pixels of an axis that a value is made of.
struct Neighbour {
    /// Their numbers, i32, within the axis.
    at: Tensor,
    /// Their weights; 0 for those outside.
    weight: Tensor,
}

/// Coordinates from -1 to 1 in pixels of an axis of `size`, brought into the image as `options` say.
fn place(at: &Tensor, size: usize, options: &GridSampleOptions) -> Tensor {
    let last = (size - 1) as f64;
    let half = if options.align_corners { last / 2.0 } else { size as f64 / 2.0 };
    let pixels = at.scale(half).offset(last / 2.0);
    let ends = |x: Tensor, low: f64, high: f64| x.clamp(low, high);
    match options.padding {
        // Further out there are only zeros.
        SamplePadding::Zeros => ends(pixels, -2.0, last + 2.0),
        SamplePadding::Border => ends(pixels, 0.0, last),
        SamplePadding::Reflection => {
            let (low, span) = if options.align_corners { (0.0, last) } else { (-0.5, size as f64) };
            if span == 0.0 {
                return pixels.scale(0.0);
            }
            let away = pixels.offset(-low).abs();
            let whole = |number: f64| at.device().fixed(&[], DType::I32, number);
            let flips = away.detach().scale(1.0 / span).cast(DType::I32);
            let rest = &away - flips.cast(DType::F32).scale(span);
            let is_even = (&flips / whole(2.0) * whole(2.0)).eq(&flips);
            let back = rest.negative().offset(span + low);
            ends(is_even.where_(&rest.offset(low), &back), 0.0, last)
        }
    }
}

/// The pixels around places that are not below -2.
fn neighbours(pixels: &Tensor, size: usize, mode: SampleMode) -> Vec<Neighbour> {
    let whole = |number: f64| pixels.device().fixed(&[], DType::I32, number);
    // Toward zero is down for what is not negative.
    let floor = |x: &Tensor| x.offset(2.0).cast(DType::I32) - whole(2.0);
    let zero = pixels.scalar(0.0);
    let neighbour = |at: Tensor, weight: &Tensor| {
        let inside = at.ge(&whole(0.0)).logical_and(&at.lt(&whole(size as f64)));
        let at = at.maximum(&whole(0.0)).minimum(&whole((size - 1) as f64));
        Neighbour { at, weight: inside.where_(weight, &zero) }
    };
    match mode {
        SampleMode::Bilinear => {
            let first = floor(&pixels.detach());
            let share = pixels - first.cast(DType::F32);
            let rest = share.negative().offset(1.0);
            vec![neighbour(first.clone(), &rest), neighbour(first + whole(1.0), &share)]
        }
        SampleMode::Nearest => {
            let up = pixels.detach().offset(0.5);
            let near = floor(&up);
            let is_odd = (&near / whole(2.0) * whole(2.0)).ne(&near);
            let is_tie = near.cast(DType::F32).eq(&up);
            let near = is_tie.logical_and(&is_odd).where_(&(&near - whole(1.0)), &near);
            // NaN stays NaN.
            let one = pixels.detach().scale(0.0).offset(1.0);
            vec![neighbour(near, &one)]
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    let bound = Tolerance::Pointwise { absolute: 2e-4, relative: 2e-5 };
    let sample = |name: &str, x: &[usize], grid: &[usize], mode, padding, align_corners| {
        let options = GridSampleOptions { mode, padding, align_corners };
        let case = Case::new(name, move |x| x[0].grid_sample(&x[1], &options)).normal(x);
        case.input(grid, DType::F32, Draw::Uniform(-1.7, 1.7)).tolerance(bound)
    };
    use SampleMode::{Bilinear, Nearest};
    use SamplePadding::{Border, Reflection, Zeros};
    vec![
        sample("sample", &[2, 3, 7, 5], &[2, 4, 9, 2], Bilinear, Zeros, false),
        sample("sample_border_corners", &[2, 3, 5, 7], &[2, 3, 5, 2], Bilinear, Border, true),
        sample("sample_reflected", &[1, 2, 4, 5], &[1, 3, 7, 2], Bilinear, Reflection, false),
        sample("sample_reflected_corners", &[1, 2, 4, 1], &[1, 3, 5, 2], Bilinear, Reflection, true),
        sample("sample_nearest", &[2, 3, 7, 5], &[2, 4, 9, 2], Nearest, Zeros, false),
        Case::new("affine_grid", |x| x[0].affine_grid(&[2, 1, 5, 7], false)).normal(&[2, 2, 3]).tolerance(bound),
        Case::new("affine_grid_volume", |x| x[0].affine_grid(&[1, 1, 3, 1, 5], true))
            .normal(&[1, 3, 4])
            .tolerance(bound),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn images_and_grids_that_do_not_fit_are_refused() {
        let device = Device::cpu();
        let (x, options) = (device.zeros(&[2, 3, 4, 5]), GridSampleOptions::default());
        assert!(matches!(x.grid_sample(&device.zeros(&[2, 4, 5, 3]), &options).error(), Some(Error::Shape { .. })));
        let half = device.zeros(&[2, 4, 5, 2]).cast(DType::F16);
        assert!(matches!(x.grid_sample(&half, &options).error(), Some(Error::DType { .. })));
        assert!(matches!(
            device.zeros(&[2, 2, 3]).affine_grid(&[1, 1, 4, 4], false).error(),
            Some(Error::Shape { .. })
        ));
    }
}
