//! Constants that are part of a graph's structure: one value, or the index along the last axis.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Role, Tolerance};
use crate::shader::{Algebra, Expression};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// What a constant holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// This value everywhere.
    Value(f64),
    /// The linear index.
    Index,
}

/// A constant tensor; costs no memory where it is fused.
#[derive(Debug)]
pub struct Constant {
    /// Axis lengths.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
    /// Contents.
    pub fill: Fill,
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn role(&self) -> Role {
        match self.fill {
            Fill::Value(value) => Role::Constant(value),
            Fill::Index => Role::Computed,
        }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.dtype as u64);
        words.push(match self.fill {
            Fill::Value(value) => value.to_bits(),
            Fill::Index => u64::MAX,
        });
        words.extend(self.shape.iter().map(|&dim| dim as u64));
    }

    fn shape(&self, _: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![Meta { shape: self.shape, dtype: self.dtype }])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![]
    }

    fn reference(&self, _: &[&Array], output: &Meta) -> Vec<Array> {
        vec![Array::build(output.shape, output.dtype, |i| match self.fill {
            Fill::Value(value) => output.dtype.round(value),
            // As a device converts it: f32 has not the digits of every index.
            Fill::Index if output.dtype.is_float() => output.dtype.round(f64::from(i as f32)),
            Fill::Index => i as f64,
        })]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let (expression, constants) = match (self.fill, output.dtype) {
            (Fill::Value(value), DType::Bool) => ("k0 != F(0.0)", vec![value]),
            (Fill::Value(value), _) => ("k0", vec![value]),
            (Fill::Index, DType::I32) => ("I(index)", vec![]),
            (Fill::Index, DType::U32) => ("index", vec![]),
            (Fill::Index, _) => ("F(index)", vec![]),
        };
        Lowering::Expression { expression: Expression::new(expression, Algebra::Plain), constants }
    }

    fn cases() -> Vec<Case> {
        let exact = |case: Case| case.normal(&[37]).tolerance(Tolerance::Exact).not_differentiable();
        vec![
            exact(Case::new("index", |x| x[0].device().arange(131, DType::I32))),
            exact(Case::new("index_f32", |x| x[0].device().arange(37, DType::F32))),
            exact(Case::new("ones", |x| x[0].device().ones(&[3, 5]))),
        ]
    }
}
