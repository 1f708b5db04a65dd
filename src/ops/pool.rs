//! What max and average pooling share: the window and its shape rule.

use crate::ops::{Meta, Problem};
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
        let mut sizes = [height, width];
        for (axis, size) in sizes.iter_mut().enumerate() {
            let (kernel, padding) = (self.kernel[axis], self.padding[axis]);
            if padding > kernel / 2 || *size + 2 * padding < kernel {
                let what = format!("a kernel of {kernel} with padding {padding} on an axis of {size}");
                return Err(Problem::Value(what, "pad at most half a kernel, and let the kernel fit the padded axis"));
            }
            *size = (*size + 2 * padding - kernel) / self.stride[axis] + 1;
        }
        let shape = Shape::new(&[batch, channels, sizes[0], sizes[1]]).unwrap_or(shape);
        Ok(Meta { shape, dtype })
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

    /// The `const` lines of a shader.
    pub(crate) fn constants(&self, columns: usize) -> String {
        let [[kh, kw], [sh, sw]] = [self.kernel, self.stride];
        format!(
            "const GROUP: u32 = 64u;\nconst COLUMNS: u32 = {columns}u;\nconst KERNEL_HEIGHT: u32 = {kh}u;\n\
             const KERNEL_WIDTH: u32 = {kw}u;\nconst STRIDE_HEIGHT: u32 = {sh}u;\nconst STRIDE_WIDTH: u32 = {sw}u;\n"
        )
    }

    /// planes, in height, in width, out height, out width.
    pub(crate) fn sizes(input: &Shape, output: &Shape) -> [u32; 5] {
        [input[0] * input[1], input[2], input[3], output[2], output[3]].map(|n| n as u32)
    }
}
