//! Reverse-mode differentiation over recorded nodes, in ops: the gradient is a graph like any other.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Node, Source};
use crate::ops::Backward;
use crate::tensor::{Tensor, in_rule};

impl Tensor {
    /// Gradients of this scalar with respect to `wrt` (parameters' tensors, or what [`Tensor::variable`] made), in that
    /// order. They are recorded, not run; they can be differentiated again. A tensor that the loss does not reach gets
    /// zeros.
    ///
    /// # Errors
    /// The error that this tensor carries, or [`Error::Shape`] unless it has one element.
    #[track_caller]
    pub fn gradients(&self, wrt: &[&Tensor]) -> Result<Vec<Tensor>> {
        if let Some(error) = self.error().or_else(|| wrt.iter().find_map(|tensor| tensor.error())) {
            return Err(error.clone());
        }
        check_scalar(self, Location::caller())?;
        let targets: Vec<Arc<Node>> = wrt.iter().map(|tensor| tensor.node().clone()).collect();
        let gradients = backward(self, &targets)?;
        let zeros = |tensor: &Tensor| tensor.device().zeros(tensor.dims());
        Ok(gradients.into_iter().zip(wrt).map(|(gradient, tensor)| gradient.unwrap_or_else(|| zeros(tensor))).collect())
    }
}

/// `Err` unless `loss` has one float element.
pub(crate) fn check_scalar(loss: &Tensor, at: &'static Location<'static>) -> Result<()> {
    if loss.dims().elements() == 1 && loss.meta().dtype.is_float() {
        return Ok(());
    }
    Err(Error::Shape {
        op: "gradients",
        at,
        what: format!("a loss must be one float, not {} {}", loss.dims(), loss.meta().dtype),
        next: "reduce it with mean or sum",
    })
}

/// Gradients of `loss` with respect to `targets`; `None` where it does not reach.
///
/// Nodes are visited from the last recorded to the first; where several consumers contribute, the sum is formed in that
/// order: the first assigns, later ones add.
pub(crate) fn backward(loss: &Tensor, targets: &[Arc<Node>]) -> Result<Vec<Option<Tensor>>> {
    let order = reachable(loss.node());
    let mut gradients: HashMap<*const Node, Tensor> = HashMap::new();
    gradients.insert(Arc::as_ptr(loss.node()), loss.ones_like());
    for node in order {
        let Source::Op(op) = &node.source else { continue };
        let is_target = targets.iter().any(|target| Arc::ptr_eq(target, &node));
        let Some(mut grad) = gradients.get(&Arc::as_ptr(&node)).cloned() else { continue };
        if !is_target {
            gradients.remove(&Arc::as_ptr(&node));
        }
        // The gradient of an f16 value may be an f32 sum; only a cast from f32 has use for all its bits.
        if op.name() != "cast" {
            grad = grad.cast(node.meta.dtype);
        }
        let inputs: Vec<Tensor> = node.inputs.iter().map(|input| Tensor::from_node(input.clone())).collect();
        let needs: Vec<bool> = node.inputs.iter().map(|input| input.requires_grad).collect();
        if !needs.contains(&true) {
            continue;
        }
        let output = Tensor::from_node(node.clone());
        let seen = Backward { inputs: &inputs, output: &output, grad: &grad, needs: &needs };
        let parts = in_rule(|| op.gradient(&seen));
        for ((part, input), needed) in parts.into_iter().zip(&node.inputs).zip(needs) {
            let Some(part) = part.filter(|_| needed) else { continue };
            if let Some(error) = part.error() {
                return Err(error.clone());
            }
            if part.dims() != &input.meta.shape {
                return Err(Error::internal(format!(
                    "the gradient rule of {} gave shape {} for an input of shape {}",
                    op.name(),
                    part.dims(),
                    input.meta.shape
                )));
            }
            let total = match gradients.remove(&Arc::as_ptr(input)) {
                Some(first) if first.meta().dtype == part.meta().dtype => first + part,
                Some(first) => first.widen() + part.widen(),
                None => part,
            };
            gradients.insert(Arc::as_ptr(input), total);
        }
    }
    let gradient = |target: &Arc<Node>| Some(gradients.get(&Arc::as_ptr(target))?.cast(target.meta.dtype));
    Ok(targets.iter().map(gradient).collect())
}

/// Nodes below `loss` through which gradients flow, consumers before producers.
fn reachable(loss: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut seen = std::collections::HashSet::new();
    let mut order = vec![];
    let mut stack = vec![(loss.clone(), false)];
    while let Some((node, entered)) = stack.pop() {
        if entered {
            order.push(node);
        } else if node.requires_grad && seen.insert(Arc::as_ptr(&node)) {
            stack.push((node.clone(), true));
            stack.extend(node.inputs.iter().rev().map(|input| (input.clone(), false)));
        }
    }
    order.reverse();
    order
}
