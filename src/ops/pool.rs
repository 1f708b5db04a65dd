//! What poolings and what else slides share: windows and their shape rules.

pub mod spans;

use crate::error::Problem;
use crate::kernel::MAX_ITERATIONS;
use crate::kernel::Shader;
use crate::layout::Meta;
use crate::ops::shared::each;
use crate::shape::Shape;

/// A sliding window over the last two axes of [batch, channels, height, width].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
    /// Rows and columns put around, at most half a kernel.
    pub padding: [usize; 2],
}

impl Window {
    pub(crate) fn words(&self, words: &mut Vec<u64>) {
        let all = self.kernel.iter().chain(&self.stride).chain(&self.padding);
        words.extend(all.map(|&n| n as u64));
    }

    /// Shape of the pooled result: floor((size + 2 padding - kernel) / stride) + 1 along each axis.
    pub(crate) fn output(&self, input: &Meta) -> Result<Meta, Problem> {
        let Meta { shape, dtype } = *input;
        let &[batch, channels, height, width] = &*shape else {
            let what = format!("input of shape {shape}");
            return Err(Problem::Shape(what, "pass [batch, channels, height, width]"));
        };
        if !dtype.is_float() {
            return Err(Problem::DType(format!("it takes floats, not {dtype}")));
        }
        if self.kernel.contains(&0) || self.stride.contains(&0) {
            let what = format!("kernel {:?} with stride {:?}", self.kernel, self.stride);
            return Err(Problem::Value(what, "use kernels and strides of at least 1"));
        }
        let largest = [self.kernel, self.stride, self.padding].concat().into_iter().max();
        if largest >= Some(1 << 16) {
            let what = format!("kernel {:?}, stride {:?}, padding {:?}", self.kernel, self.stride, self.padding);
            return Err(Problem::Value(
                what,
                "none may pass 65,535; pool a whole plane by `mean` or `max` over its axes",
            ));
        }
        self.loops(self.kernel[0] * (1 + self.kernel[1]))?;
        let mut sizes = [height, width];
        for (axis, size) in sizes.iter_mut().enumerate() {
            let (kernel, padding) = (self.kernel[axis], self.padding[axis]);
            if padding > kernel / 2 || *size + 2 * padding < kernel {
                let what = format!("a kernel of {kernel} with padding {padding} on an axis of {size}");
                return Err(Problem::Value(what, "pad at most half a kernel, and let the kernel fit the padded axis"));
            }
            *size = (*size + 2 * padding - kernel) / self.stride[axis] + 1;
        }
        let dims = [batch, channels, sizes[0], sizes[1]];
        let too_large =
            || Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements");
        Ok(Meta { shape: Shape::new(&dims).ok_or_else(too_large)?, dtype })
    }

    /// `Err` if an element takes more rounds of a loop than software drivers allow an invocation.
    pub(crate) fn loops(&self, rounds: usize) -> Result<(), Problem> {
        if (rounds as u64) < MAX_ITERATIONS {
            return Ok(());
        }
        let what = format!("kernel {:?} with stride {:?} takes {rounds} steps an element", self.kernel, self.stride);
        Err(Problem::Value(what, "use a smaller kernel, a larger stride, or `mean` or `max` over whole axes"))
    }

    /// How many windows may cover an element, along each axis.
    pub(crate) fn covering(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.kernel[axis] - 1) / self.stride[axis] + 1)
    }

    /// Neighbouring columns of an invocation, for `rounds` of loops each: four, or one where those are too many.
    pub(crate) fn columns(rounds: usize) -> usize {
        if 4 * (1 + rounds) as u64 <= MAX_ITERATIONS { 4 } else { 1 }
    }

    /// Calls `visit` with each input (row, column) of window (i, j) that lies inside the plane, row by row.
    pub(crate) fn taps(&self, plane: [usize; 2], i: usize, j: usize, mut visit: impl FnMut(usize, usize)) {
        for u in 0..self.kernel[0] {
            for v in 0..self.kernel[1] {
                let row = (i * self.stride[0] + u).checked_sub(self.padding[0]);
                let column = (j * self.stride[1] + v).checked_sub(self.padding[1]);
                if let (Some(row), Some(column)) = (row, column)
                    && row < plane[0]
                    && column < plane[1]
                {
                    visit(row, column);
                }
            }
        }
    }

    /// A shader with the constants of the window.
    pub(crate) fn constants(&self, shader: Shader, columns: usize) -> Shader {
        let [[kh, kw], [sh, sw]] = [self.kernel, self.stride];
        let shader = each(shader).constant("COLUMNS", columns);
        let shader = shader.constant("KERNEL_HEIGHT", kh).constant("KERNEL_WIDTH", kw);
        shader.constant("STRIDE_HEIGHT", sh).constant("STRIDE_WIDTH", sw)
    }
}
