//! Gradient rules against central finite differences, in f64, in one random direction, with the op in the middle of a
//! graph.

mod common;

use kiln::ops::Case;
use kiln::{Array, DType, Device, Tensor};

/// sin is not an op: tanh and a sum of squares stand around the op, so that its own cotangent is not constant.
/// These are the terms of the loss, for each float result.
fn terms(case: &Case, inputs: &[Tensor], weights: &[Array]) -> Vec<Tensor> {
    let results = (case.build)(inputs).results();
    let term = |(y, weight): (&Tensor, &Array)| y * y.device().array(weight) + (y * 0.5).tanh() * 0.3;
    common::floats(&results).zip(weights).map(term).collect()
}

fn check(case: &Case) -> Result<(), String> {
    if !case.differentiable {
        return Ok(());
    }
    let cpu = Device::cpu();
    let inputs = common::inputs(case);
    let text = |error: kiln::Error| error.to_string();
    let results = common::run(&cpu, case, &inputs, None).map_err(text)?;
    let floats = results.iter().filter(|result| result.dtype.is_float());
    let weights: Vec<Array> = floats.zip(7..).map(|(result, seed)| common::normals(&result.shape, seed)).collect();
    let directions: Vec<Array> =
        inputs.iter().enumerate().map(|(i, input)| common::normals(&input.shape, 100 + i as u64)).collect();
    let tensors: Vec<Tensor> = inputs
        .iter()
        .map(|array| if array.dtype == DType::F32 { cpu.array(array).variable() } else { cpu.array(array) })
        .collect();
    let wrt: Vec<&Tensor> = tensors.iter().filter(|tensor| tensor.requires_grad()).collect();
    let sums = terms(case, &tensors, &weights).into_iter().map(|terms| terms.sum_all());
    let loss = sums.reduce(|sum, next| sum + next).ok_or("no float result")?;
    let gradients = loss.gradients(&wrt).map_err(text)?;
    // Inputs that are scalars by construction (slopes, bounds) have no gradient rule; move the others.
    let mut analytic = 0.0;
    let mut moved = vec![false; inputs.len()];
    let mut next = 0;
    for (i, tensor) in tensors.iter().enumerate() {
        if !tensor.requires_grad() {
            continue;
        }
        let gradient = gradients[next].to_array().map_err(text)?;
        next += 1;
        if gradient.data.iter().all(|&g| g == 0.0) && inputs[i].shape.rank() == 0 {
            continue;
        }
        moved[i] = true;
        analytic += gradient.data.iter().zip(&directions[i].data).map(|(g, d)| g * d).sum::<f64>();
    }
    let step = 1e-6;
    let at = |sign: f64| -> Result<Vec<f64>, String> {
        let shifted: Vec<Tensor> = inputs
            .iter()
            .enumerate()
            .map(|(i, array)| {
                let mut array = array.clone();
                if moved[i] {
                    let shift = array.data.iter_mut().zip(&directions[i].data);
                    shift.for_each(|(x, d)| *x += sign * step * d);
                }
                cpu.array(&array)
            })
            .collect();
        let terms: Result<Vec<Array>, _> = terms(case, &shifted, &weights).iter().map(Tensor::to_array).collect();
        Ok(terms.map_err(text)?.into_iter().flat_map(|terms| terms.data).collect())
    };
    // Term by term: the difference of two sums of many terms has lost its digits.
    let (above, below) = (at(1.0)?, at(-1.0)?);
    let numeric = above.iter().zip(&below).map(|(a, b)| a - b).sum::<f64>() / (2.0 * step);
    let scale = analytic.abs().max(1.0);
    if ((numeric - analytic) / scale).abs() < 1e-6 {
        Ok(())
    } else {
        Err(format!("{analytic:e} by the rule, {numeric:e} by differences"))
    }
}

#[test]
fn every_gradient_rule_agrees_with_finite_differences() {
    common::every_case(check);
}
