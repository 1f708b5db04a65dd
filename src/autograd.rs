//! Reverse-mode differentiation over recorded nodes, in ops: the gradient is a graph like any other.

use std::panic::Location;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::error::{Error, Result};
use crate::graph::{Node, Source};
use crate::history::Flow;
use crate::op::{Backward, Op, Role};
use crate::tensor::{Tensor, in_rule};
use crate::version::StoreState;

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
        // An update by another thread comes before all of them or after.
        let _gates = StoreState::enter_all(&self.node().stores);
        let targets: Vec<Arc<Node>> = wrt.iter().map(|tensor| tensor.node().clone()).collect();
        let gradients = backward(self, None, &targets)?;
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

/// Gradients of `loss` (times `seed`, a scalar) with respect to `targets`; `None` where it does not reach.
///
/// Nodes are visited from the last recorded to the first; where several consumers contribute, the sum is formed in that
/// order: the first assigns, later ones add.
pub(crate) fn backward(loss: &Tensor, seed: Option<Tensor>, targets: &[Arc<Node>]) -> Result<Vec<Option<Tensor>>> {
    backward_over(loss, seed, targets, &mut |op, seen, _| Ok(in_rule(|| op.gradient(seen))))
}

/// What forms the gradients at an op of [`Role::OfRanks`]: from the op, what its rule would see, and the gradients so far of
/// the targets. It may run what has been recorded.
pub(crate) type AtRanks<'a> = &'a mut dyn FnMut(&dyn Op, &Backward<'_>, &[Tensor]) -> Result<Vec<Option<Tensor>>>;

/// True if the backward pass of `loss` comes to an op of [`Role::OfRanks`].
pub(crate) fn is_over_ranks(loss: &Tensor) -> Result<bool> {
    Ok(reachable(loss.node())?.iter().any(|node| node.role() == Some(Role::OfRanks)))
}

/// [`backward`], with the gradients at ops of [`Role::OfRanks`] formed by `at_ranks`: all that comes to one has come before.
pub(crate) fn backward_over(
    loss: &Tensor,
    seed: Option<Tensor>,
    targets: &[Arc<Node>],
    at_ranks: AtRanks<'_>,
) -> Result<Vec<Option<Tensor>>> {
    let order = reachable(loss.node())?;
    let mut regions = Regions::of(&order, loss.node());
    // What each consumer contributes, the last recorded first.
    let mut gradients: FxHashMap<*const Node, Vec<Tensor>> = FxHashMap::default();
    let seed = match seed {
        Some(seed) => seed.reshape(loss.dims()).cast(loss.meta().dtype),
        None => loss.ones_like(),
    };
    gradients.insert(Arc::as_ptr(loss.node()), vec![seed]);
    let wanted: FxHashSet<*const Node> = targets.iter().map(Arc::as_ptr).collect();
    // What has come for each result of an op of several.
    let mut of_results: FxHashMap<*const Node, Vec<Option<Tensor>>> = FxHashMap::default();
    for node in order {
        let is_target = wanted.contains(&Arc::as_ptr(&node));
        let arrived = gradients.remove(&Arc::as_ptr(&node)).map(|parts| in_rule(|| Tensor::sum_of_parts(parts)));
        if let Some(grad) = arrived.as_ref().filter(|_| is_target) {
            gradients.insert(Arc::as_ptr(&node), vec![grad.clone()]);
        }
        let (op, grads) = match (&node.source, arrived) {
            // The gradient of an f16 value may be an f32 sum; only a cast from f32 has use for all its bits.
            (Source::Op(op), Some(grad)) if op.role() == Role::Cast => (op, vec![Some(grad)]),
            (Source::Op(op), Some(grad)) => (op, vec![Some(grad.cast(node.meta.dtype))]),
            (Source::Op(op), None) => match of_results.remove(&Arc::as_ptr(&node)) {
                Some(grads) => (op, grads),
                None => continue,
            },
            (Source::Result { number, .. }, Some(grad)) => {
                if let [op] = &node.inputs()[..] {
                    let grads = of_results.entry(Arc::as_ptr(op)).or_insert_with(|| vec![None; op.results.len()]);
                    grads[*number] = Some(grad.cast(node.meta.dtype));
                }
                continue;
            }
            _ => continue,
        };
        let Some(first) = grads.iter().flatten().next() else { continue };
        let needs: Vec<bool> = node.with_inputs(|inputs| inputs.iter().map(|input| input.requires_grad).collect());
        if node.flow() != Flow::Through || !needs.contains(&true) {
            continue;
        }
        let given = node.inputs();
        let inputs: Vec<Tensor> = given.iter().map(|input| regions.value(input, &node, first)).collect();
        let outputs = regions.results(&node, first);
        let output = &outputs[0];
        let zeros = || in_rule(|| output.device().fixed(output.dims(), output.meta().dtype, 0.0));
        let grad = &grads[0].clone().unwrap_or_else(zeros);
        let seen = Backward { inputs: &inputs, output, outputs: &outputs, grad, grads: &grads, needs: &needs };
        let parts = match op.role() {
            Role::OfRanks => {
                let of = |target| gradients.get(&Arc::as_ptr(target)).into_iter().flatten().cloned();
                at_ranks(&**op, &seen, &targets.iter().flat_map(of).collect::<Vec<_>>())?
            }
            _ => in_rule(|| op.gradient(&seen)),
        };
        for ((part, input), needed) in parts.into_iter().zip(&given).zip(needs) {
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
            gradients.entry(Arc::as_ptr(input)).or_default().push(part);
        }
    }
    let mut gradient = |target: &Arc<Node>| {
        let parts = gradients.remove(&Arc::as_ptr(target))?;
        let total = in_rule(|| Tensor::sum_of_parts(parts));
        // A target may be asked for twice.
        gradients.insert(Arc::as_ptr(target), vec![total.clone()]);
        Some(total.cast(target.meta.dtype))
    };
    Ok(targets.iter().map(&mut gradient).collect())
}

/// Nodes below `loss` through which gradients flow, consumers before producers.
fn reachable(loss: &Arc<Node>) -> Result<Vec<Arc<Node>>> {
    let mut seen = FxHashSet::default();
    let mut order = vec![];
    let mut stack = vec![(loss.clone(), false)];
    let mut inputs = vec![];
    while let Some((node, entered)) = stack.pop() {
        if entered {
            order.push(node);
        } else if node.requires_grad && seen.insert(Arc::as_ptr(&node)) {
            stack.push((node.clone(), true));
            node.gradient_inputs(&mut inputs)?;
            stack.extend(inputs.drain(..).map(|input| (input, false)));
        }
    }
    order.reverse();
    Ok(order)
}

/// The recomputed regions ([`crate::recompute`]) of a backward pass.
struct Regions {
    /// Nodes of regions that are used outside them: these are kept.
    kept: FxHashSet<*const Node>,
    /// The first gradient that reaches each region: what is computed again waits for it.
    waits_for: FxHashMap<u64, Tensor>,
    /// Nodes computed again, and inputs of regions that wait.
    again: FxHashMap<(u64, *const Node), Arc<Node>>,
}

impl Regions {
    fn of(order: &[Arc<Node>], loss: &Arc<Node>) -> Regions {
        let mut kept = FxHashSet::from_iter([Arc::as_ptr(loss)]);
        for node in order {
            let outside = |input: &&Arc<Node>| input.region != 0 && input.region != node.region;
            node.with_inputs(|inputs| kept.extend(inputs.iter().filter(outside).map(Arc::as_ptr)));
        }
        Regions { kept, waits_for: FxHashMap::default(), again: FxHashMap::default() }
    }

    /// The values of the results of `node`'s op as its own gradient rule sees them.
    fn results(&mut self, node: &Arc<Node>, grad: &Tensor) -> Vec<Tensor> {
        if node.results.is_empty() {
            return vec![self.value(node, node, grad)];
        }
        let known: Vec<Option<Arc<Node>>> = node.known_results().collect();
        let value = |(number, known): (usize, Option<Arc<Node>>)| match known {
            Some(result) => self.value(&result, node, grad),
            None => Tensor::from_node(self.value(node, node, grad).node().result(number)),
        };
        known.into_iter().enumerate().map(value).collect()
    }

    /// The value of `node` as the gradient rule of `asking`, with gradient `grad`, sees it.
    fn value(&mut self, node: &Arc<Node>, asking: &Arc<Node>, grad: &Tensor) -> Tensor {
        let region = asking.region;
        if region == 0 || self.is_given(node, region) {
            return Tensor::from_node(node.clone());
        }
        let grad = self.waits_for.entry(region).or_insert_with(|| grad.clone()).clone();
        // Inputs first, without recursion: a region may be a long chain.
        let mut stack = vec![node.clone()];
        while let Some(next) = stack.last().cloned() {
            let inside = |input: &&Arc<Node>| {
                !self.is_given(input, region) && !self.again.contains_key(&(region, Arc::as_ptr(input)))
            };
            let inputs = next.inputs();
            let missing: Vec<Arc<Node>> = inputs.iter().filter(inside).cloned().collect();
            if missing.is_empty() {
                let inputs = inputs.iter().map(|input| self.input_again(input, &next, &grad)).collect();
                self.again.insert((region, Arc::as_ptr(&next)), Tensor::again(&next, inputs));
                stack.pop();
            } else {
                stack.extend(missing);
            }
        }
        Tensor::from_node(self.again[&(region, Arc::as_ptr(node))].clone())
    }

    /// `input` as a node sees it that is computed again in place of `user`, after `grad`.
    ///
    /// What is given is wrapped, so that the planner does not take the two for one. A parameter costs nothing to keep,
    /// and host numbers beside another input need no mark: that input has one.
    fn input_again(&mut self, input: &Arc<Node>, user: &Arc<Node>, grad: &Tensor) -> Arc<Node> {
        let key = (user.region, Arc::as_ptr(input));
        if let Some(known) = self.again.get(&key) {
            return known.clone();
        }
        let is_number = |node: &Arc<Node>| matches!(node.source, Source::Operand { .. });
        let beside_others = is_number(input) && !user.with_inputs(|inputs| inputs.iter().all(is_number));
        if beside_others || matches!(input.source, Source::Parameter(_)) {
            return input.clone();
        }
        let waiting = Tensor::from_node(input.clone()).after(grad).node().clone();
        if !is_number(input) {
            self.again.insert(key, waiting.clone());
        }
        waiting
    }

    /// True if `node` is there without being computed again.
    fn is_given(&self, node: &Arc<Node>, region: u64) -> bool {
        let has_value = node.has_value() && !node.reaches_parameters();
        node.region != region
            || !matches!(node.source, Source::Op(_) | Source::Result { .. })
            || has_value
            || self.kept.contains(&Arc::as_ptr(node))
    }
}
