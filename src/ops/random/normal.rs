//! Standard normal numbers of random words (Box and Muller 1958).

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::rng::Draws;
use crate::shader::{Algebra, Expression};
use crate::tensor::Tensor;

/// A standard normal for each pair of words of two inputs, of which the upper 24 bits count.
#[derive(Debug)]
pub struct Normals;

impl Op for Normals {
    fn name(&self) -> &'static str {
        "normals"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        if inputs[0] != inputs[1] || inputs[0].dtype != DType::U32 {
            let what = format!("it takes u32 words of one shape, not {} and {}", inputs[0].dtype, inputs[1].dtype);
            return Err(Problem::DType(what));
        }
        Ok(vec![Meta { dtype: DType::F32, ..inputs[0] }])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None, None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let share = |word: f64| (word as u32 >> 8) as f64 / 16_777_216.0;
        vec![Array::build(output.shape, output.dtype, |i| {
            // Above 0, up to 1.
            let u = share(inputs[0].data[i]) + 1.0 / 16_777_216.0;
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * share(inputs[1].data[i])).cos()
        })]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::Expression { expression: Expression::new("normal_of(a, b)", Algebra::Opaque), constants: vec![] }
    }

    fn cases() -> Vec<Case> {
        let near = Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 };
        let normals = |x: &[Tensor]| x[0].device().randn(&[37, 5], &Draws::new(7)) * &x[0].detach();
        let fours = |x: &[Tensor]| x[0].device().randn(&[3, 1044], &Draws::new(8));
        let case = |case: Case| case.tolerance(near).not_differentiable();
        vec![
            case(Case::new("normals", normals).normal(&[37, 5])),
            case(Case::new("normals_of_fours", fours).normal(&[1])),
        ]
    }
}
