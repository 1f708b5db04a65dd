//! The updates of ONNX's preview of training: of rate, count of steps, and for each parameter its value, gradient and moments.

use crate::onnx::call::{Call, Outcome, Row, Value};
use crate::onnx::trouble::wrong;
use crate::tensor::Tensor;

/// Runs `update` on each parameter: its value, its gradient with the penalty's, and its `moments`; the new values stand first, then the
/// new moments of each kind.
fn each(call: &Call<'_>, moments: usize, update: impl Fn(&Tensor, &Tensor, &[Tensor]) -> Vec<Tensor>) -> Outcome {
    let kinds = 2 + moments;
    let given = call.inputs.len().saturating_sub(2);
    if given == 0 || !given.is_multiple_of(kinds) {
        return wrong(format!("{given} tensors, where there are {kinds} for each parameter"));
    }
    let count = given / kinds;
    let penalty = call.float("norm_coefficient", 0.0)?;
    let mut results = vec![Value::Absent; count * (kinds - 1)];
    for number in 0..count {
        let input = |kind: usize| call.tensor(2 + kind * count + number);
        let (x, gradient) = (input(0)?, input(1)?);
        let gradient = gradient + &x * penalty;
        let mut kept = vec![];
        for kind in 0..moments {
            kept.push(input(2 + kind)?);
        }
        for (kind, new) in update(&x, &gradient, &kept).into_iter().enumerate() {
            if let Some(place) = results.get_mut(kind * count + number) {
                *place = Value::Tensor(new, call.elem(2 + number)?);
            }
        }
    }
    Ok(results)
}

fn adagrad(call: &Call<'_>) -> Outcome {
    let (rate, steps) = (call.number(0)?, call.number(1)?);
    let (decay, epsilon) = (call.float("decay_factor", 0.0)?, call.float("epsilon", 1e-6)?);
    let rate = rate / (1.0 + steps * decay);
    each(call, 1, |x, gradient, kept| {
        let [sum] = kept else { return vec![] };
        let sum = sum + gradient.square();
        let step = gradient / &(sum.sqrt() + epsilon) * rate;
        vec![x - step, sum]
    })
}

fn adam(call: &Call<'_>) -> Outcome {
    let (rate, steps) = (call.number(0)?, call.number(1)?);
    let (alpha, beta) = (call.float("alpha", 0.9)?, call.float("beta", 0.999)?);
    let epsilon = call.float("epsilon", 1e-6)?;
    let after = call.float("norm_coefficient_post", 0.0)?;
    let rate = match steps > 0.0 {
        true => rate * (1.0 - beta.powf(steps)).sqrt() / (1.0 - alpha.powf(steps)),
        false => rate,
    };
    each(call, 2, |x, gradient, kept| {
        let [first, second] = kept else { return vec![] };
        let first = first * alpha + gradient * (1.0 - alpha);
        let second = second * beta + gradient.square() * (1.0 - beta);
        let new = x - (&first * rate) / (second.sqrt() + epsilon);
        vec![new * (1.0 - after), first, second]
    })
}

fn momentum(call: &Call<'_>) -> Outcome {
    let (rate, steps) = (call.number(0)?, call.number(1)?);
    let (alpha, beta) = (call.float("alpha", 0.0)?, call.float("beta", 0.0)?);
    let is_nesterov = match call.text("mode", "standard")?.as_str() {
        "standard" => false,
        "nesterov" => true,
        other => return wrong(format!("mode is `{other}`")),
    };
    let beta = if steps > 0.0 { beta } else { 1.0 };
    each(call, 1, |x, gradient, kept| {
        let [old] = kept else { return vec![] };
        let new = old * alpha + gradient * beta;
        let step = if is_nesterov { gradient + &new * alpha } else { new.clone() };
        vec![x - step * rate, new]
    })
}

/// Updates.
pub const ROWS: &[Row] = &[
    Row::new("Adagrad", adagrad).with(&["decay_factor", "epsilon", "norm_coefficient"]).knows(&[0, 1]),
    Row::new("Adam", adam)
        .with(&["alpha", "beta", "epsilon", "norm_coefficient", "norm_coefficient_post"])
        .knows(&[0, 1]),
    Row::new("Momentum", momentum).with(&["alpha", "beta", "mode", "norm_coefficient"]).knows(&[0, 1]),
];
