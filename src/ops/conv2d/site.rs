//! A pass of a convolution as its variants see it.

use super::geometry::Geometry;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::ops::product::Product;
use crate::shader::Shader;

/// Which of the three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    DataGrad,
    WeightGrad,
}

/// A pass, with what it reads and writes.
pub(super) struct Site {
    pub pass: Pass,
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
