//! Layers with PyTorch's weights by name: results and gradients of cases whose last inputs are parameters.

use kiln::{Device, ParamStore, Tensor};
use serde_json::Value;

use super::{Case, cases, ordinary};

/// The results of a layer of this op and these attributes: it makes its parameters in the store, calls the function that gives them their
/// values, and is applied to the inputs before these.
pub type Apply = dyn Fn(&str, &Value, &ParamStore, &[Tensor], &dyn Fn()) -> Vec<Tensor>;

/// Runs a case and compares results and gradients.
fn check(device: &Device, case: &Case, bound: f64, apply: &Apply) -> Result<(), String> {
    let text = |error: kiln::Error| error.to_string();
    let compare = ordinary(bound);
    let names: Vec<&str> =
        case.attrs["parameters"].as_array().expect("names").iter().map(|name| name.as_str().expect("a name")).collect();
    let (given, weights) = case.inputs.split_at(case.inputs.len() - names.len());
    let leaves = given.iter().zip(&case.gradients).map(|(array, gradient)| match gradient {
        Some(_) => device.array(array).variable(),
        None => device.array(array),
    });
    let mut inputs: Vec<Tensor> = leaves.collect();
    let params = ParamStore::new(device, 1);
    let load = || {
        for (name, values) in names.iter().zip(weights) {
            params.get(name).expect("PyTorch's name").set(&values.data).expect("PyTorch's shape");
        }
    };
    let results = apply(&case.op, &case.attrs, &params, &inputs, &load);
    let product = |(result, cotangent): (&Tensor, &kiln::Array)| (result * device.array(cotangent)).sum_all();
    let loss = results.iter().zip(&case.cotangents).map(product).reduce(|a, b| a + b).ok_or("no result")?;
    inputs.extend(names.iter().map(|name| params.get(name).expect("a parameter").tensor()));
    let wanted: Vec<_> = inputs.iter().zip(&case.gradients).filter_map(|(x, want)| Some((x, want.as_ref()?))).collect();
    let gradients = loss.gradients(&wanted.iter().map(|(x, _)| *x).collect::<Vec<_>>()).map_err(text)?;
    device.eval(&results.iter().chain(&gradients).collect::<Vec<_>>()).map_err(text)?;
    let all = case.outputs.iter().chain(wanted.into_iter().map(|(_, want)| want));
    for (k, (got, want)) in results.iter().chain(&gradients).zip(all).enumerate() {
        compare(&got.to_array().map_err(text)?, want).map_err(|error| format!("value {k}: {error}"))?;
    }
    assert_eq!(results.len(), case.outputs.len());
    Ok(())
}

/// Holds all cases of these ops to PyTorch.
pub fn check_all(device: &Device, bound: f64, ops: &[&str], apply: &Apply) {
    let held: Vec<Case> = cases().into_iter().filter(|case| ops.contains(&&*case.op)).collect();
    assert!(held.len() > 10, "{} cases", held.len());
    let broken: Vec<String> = held
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, check(device, case, bound, apply).err()?)))
        .collect();
    assert!(broken.is_empty(), "{} cases failed:\n{}", broken.len(), broken.join("\n"));
}
