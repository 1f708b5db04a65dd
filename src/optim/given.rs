//! Gradients that the user brings instead of a loss.

use std::panic::Location;
use std::sync::Arc;

use crate::dtype::DType;
use crate::error::{Problem, Result};
use crate::graph::Node;
use crate::params::{Param, ParamStore};
use crate::tensor::Tensor;

/// For each parameter of `store`, the gradient that was given. The handles are dropped: what nobody else holds need not be
/// stored apart from the arena.
pub(super) fn by_parameter(
    store: &ParamStore,
    gradients: Vec<(Param, Tensor)>,
    at: &'static Location<'static>,
) -> Result<Vec<Option<Arc<Node>>>> {
    let layout = store.layout()?;
    let mut given: Vec<Option<Arc<Node>>> = vec![None; layout.len()];
    for (param, gradient) in gradients {
        let refuse = |problem: Problem| Err(problem.at("step_with", at));
        if let Some(error) = gradient.error() {
            return Err(error.clone());
        }
        let Some(number) = param.number_in(store)? else {
            let what = format!("parameter `{}` is of another store", param.name());
            return refuse(Problem::Value(what, "pass parameters of the store that the optimizer was made for"));
        };
        let (name, shape) = (&layout[number].name, layout[number].shape);
        if *gradient.dims() != shape {
            let what = format!("a gradient of shape {} for parameter `{name}` of shape {shape}", gradient.dims());
            return refuse(Problem::Shape(what, "pass a gradient of the parameter's shape"));
        }
        let dtype = gradient.meta().dtype;
        if dtype != DType::F32 {
            return refuse(Problem::DType(format!("the gradient of `{name}` is {dtype}: cast it to f32")));
        }
        if given[number].replace(gradient.node().clone()).is_some() {
            let what = format!("there are two gradients for parameter `{name}`");
            return refuse(Problem::Value(what, "add them, and pass their sum"));
        }
    }
    Ok(given)
}
