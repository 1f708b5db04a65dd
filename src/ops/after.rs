//! A value that may be used only once another is there: what orders the recomputation of a region behind the backward
//! pass that asks for it. Costs nothing on a device; the planner keeps the order.

use crate::array::Array;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::{Meta, ViewKind};
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::tensor::Tensor;

/// Input 0, once input 1 has been computed.
#[derive(Debug)]
pub struct After;

impl Tensor {
    /// This tensor, to be used only once `other` has been computed. Same shape and dtype.
    ///
    /// # Errors
    /// The error that either tensor carries.
    #[track_caller]
    pub fn after(&self, other: &Tensor) -> Tensor {
        Tensor::apply(After, &[self, other])
    }
}

impl Op for After {
    fn name(&self) -> &'static str {
        "after"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![inputs[0]])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(backward.grad.clone()), None]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        vec![inputs[0].clone()]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        Lowering::View(ViewKind::After)
    }

    fn cases() -> Vec<Case> {
        let plain = Case::new("plain", |x| x[0].after(&x[1])).normal(&[37, 5]).normal(&[3]);
        let view = |x: &[Tensor]| x[0].after(&x[1].exp()).permute(&[1, 0]).exp();
        vec![plain.tolerance(Tolerance::Exact), Case::new("then_permuted", view).normal(&[37, 5]).normal(&[131])]
    }
}
