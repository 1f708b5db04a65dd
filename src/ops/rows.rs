//! Kernels that fold each row of a tensor and then write results of it: what softmax, cross-entropy and their gradients
//! have in common. Not an op; ops put their own functions in front of the text (see `shaders/rows.wgsl`).

use crate::kernel::{Binding, Kernel};
use crate::shape::Shape;

/// Longest row that a kernel folds: a lane of the workgroup passes over 1/64 of it twice.
pub(crate) const MAX_LENGTH: usize = 64 * 29_000;
/// Longest row for one invocation: a quarter of it in iterations to fold, and all of it to write.
const MAX_SINGLE: usize = 45_000;

/// Functions that form a row's maximum and its sum of exponentials.
pub(crate) const LOG_SUM_EXP: &str = include_str!("../../shaders/rows_log_sum_exp.wgsl");

/// The rows of a tensor along one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub length: usize,
    /// Elements between neighbours of a row.
    pub stride: usize,
}

impl Rows {
    /// The rows of `shape` along `axis`.
    pub fn along(shape: &Shape, axis: usize) -> Rows {
        let length = shape[axis];
        Rows { rows: shape.elements() / length, length, stride: shape[axis + 1..].iter().product() }
    }

    /// Position of the first element of a row.
    pub fn start(&self, row: usize) -> usize {
        row / self.stride * self.stride * self.length + row % self.stride
    }

    /// Positions of a row's elements.
    pub fn positions(self, row: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.length).map(move |j| self.start(row) + j * self.stride)
    }

    /// The kernel with these functions: `per_row` for one result a row instead of one an element.
    pub fn kernel(
        &self,
        name: &'static str,
        functions: &str,
        bindings: Vec<Binding>,
        per_row: bool,
        software: bool,
    ) -> Kernel {
        let single = self.is_single(software);
        let variant = if single {
            include_str!("../../shaders/rows_single.wgsl")
        } else {
            include_str!("../../shaders/rows_group.wgsl")
        };
        let shared = include_str!("../../shaders/rows.wgsl");
        let source = format!("const PER_ROW: bool = {per_row};\n{functions}{shared}{variant}");
        let name = if single { name.to_string() } else { format!("{name}.workgroup") };
        let mut kernel = Kernel::own(name, source);
        kernel.bindings = bindings;
        kernel.params = vec![self.rows as u32, self.length as u32, self.stride as u32, 0];
        kernel.workgroups = if single { (self.rows as u64).div_ceil(64) } else { self.rows as u64 };
        let written = if per_row { 1 } else { self.length };
        kernel.iterations = match single {
            true => self.length / 4 + 4 + written,
            false => (self.length / 64 + 1) + (written / 64 + 1) + 6,
        } as u64;
        kernel.epilogue = true;
        kernel
    }

    /// True if one invocation takes a row. Barriers are slow on software drivers, which have few lanes to fill; a GPU
    /// prefers one invocation for short rows, and where neighbouring rows lie side by side and there are many.
    fn is_single(&self, software: bool) -> bool {
        let side_by_side = self.stride >= 32 && self.rows >= 2048;
        let wanted = if software { self.length <= 1024 || self.rows >= 64 } else { self.length <= 32 || side_by_side };
        wanted && self.length <= MAX_SINGLE
    }
}
