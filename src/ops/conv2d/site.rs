//! A pass of a convolution as its variants see it.

use super::geometry::Geometry;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::ops::product::Product;
use crate::shader::Shader;

/// Which of the three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    DataGrad,
    WeightGrad,
}

impl Direction {
    /// What its shaders call the two operands and the result.
    pub fn names(self) -> [&'static str; 3] {
        match self {
            Direction::Forward => ["x", "w", "y"],
            Direction::DataGrad => ["dy", "w", "dx"],
            Direction::WeightGrad => ["x", "dy", "dw"],
        }
    }
}

/// Elements of operands and result, one at a time.
pub(super) const SINGLE: [&str; 3] = ["$A_TYPE$", "$B_TYPE$", "$OUT$"];

/// Binds the two operands and the result.
pub(super) fn bind(kernel: &mut Kernel, names: [&'static str; 3], elements: [&'static str; 3]) {
    let bindings = [Binding::input(0), Binding::input(1), Binding::output()];
    for ((binding, name), element) in bindings.into_iter().zip(names).zip(elements) {
        kernel.bind(binding, name, element);
    }
}

/// A pass, with what it reads and writes.
pub(super) struct Site {
    pub pass: Direction,
    pub geometry: Geometry,
    pub precision: Product,
    pub inputs: Vec<Meta>,
    pub output: Meta,
}

impl Site {
    /// What declares how operands are read.
    pub fn types(&self, capabilities: &Capabilities) -> Shader {
        self.precision.types(&self.inputs, capabilities)
    }

    /// True where lanes had better load a weight once and pass it on, among the 8 of a subgroup that share one of `rows`
    /// channels or filters of a group.
    pub fn broadcasts(&self, rows: usize, capabilities: &Capabilities) -> bool {
        capabilities.costs().dear_loads && capabilities.subgroup == Some(8) && rows >= 4
    }
}
