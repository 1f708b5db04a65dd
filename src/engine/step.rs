//! A training step, in the order in which it happens: states and checks, the graph, one submission, the outcome.

use std::panic::Location;

use super::check;
use super::compute::{compute_for_others, promote, store_cpu, wanted};
use super::handover::{Gradients, Step, Stepped};
use super::make::{plan_step, roots_of, with_gradients};
use super::refusal::failure;
use crate::autograd;
use crate::cpu;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::GpuValue;
use crate::graph::{Snapshot, Source, Value};
use crate::layout::Meta;
use crate::profile::Phase;
use crate::shape::Shape;
use crate::state::{Assigned, Outcome};
use crate::target::Target;
use crate::tensor::{Tensor, outside_rules};

/// Backward pass and update in one submission; assignments to states become their values if the update is done, and are
/// dropped if it is not.
pub(crate) fn step(step: &Step<'_>, device: &Device, at: &'static Location<'static>) -> Result<Stepped> {
    outside_rules("step", at)?;
    let assigned: Vec<Assigned> = step.states.iter().filter_map(|state| state.assigned(step.end().is_some())).collect();
    let result = match assigned.iter().find_map(|assigned| assigned.new.error()) {
        Some(error) => Err(error.clone()),
        None => run_step(step, device, at, &assigned),
    };
    let outcome = match &result {
        Ok((outcome, _)) => outcome,
        Err(_) => &Outcome::Failed,
    };
    step.states.iter().for_each(|state| state.settle(outcome));
    result.map(|(_, stepped)| stepped)
}

/// [`step`], with the outcome for the states.
fn run_step(
    step: &Step<'_>,
    device: &Device,
    at: &'static Location<'static>,
    assigned: &[Assigned],
) -> Result<(Outcome, Stepped)> {
    let Step { store, author, number, .. } = *step;
    let roots = step.gradients.roots();
    if let Some(error) = roots.iter().find_map(|node| node.error()) {
        return Err(error.clone());
    }
    if let Gradients::Of(loss) = step.gradients {
        autograd::check_scalar(loss, at)?;
    }
    if !step.has_met {
        store.take_failure()?;
    }
    if let Some(node) = roots.iter().find(|node| !node.device.same(device)) {
        let [left, right] = [device.name().into(), node.device.name().into()];
        return Err(Error::Device { op: "step", at, left, right });
    }
    let scale = if device.is_checked() { check::scale(step)? } else { None };
    let _gate = store.enter();
    store.check_own("step", at)?;
    let (accepted, stepped) = submit(step, device, at, assigned)?;
    let mut outcome = match accepted {
        _ if step.end().is_none() => Outcome::Gathered,
        Some(flag) => Outcome::Asks(flag),
        None => Outcome::Accepted,
    };
    if let Some(update) = step.end().filter(|_| device.is_cpu() || device.is_checked()) {
        // Known at once.
        let status = update.status.read(0, 4)?;
        if status[2] != 0.0 && device.is_cpu() {
            outcome = Outcome::Refused;
        }
        let reports_later = !device.is_cpu() && !device.engine().forget_step(number, author);
        if let Some(error) = failure(&status, number, author).filter(|_| !reports_later) {
            let found = match device.is_checked() {
                true => check::first_not_finite(step, scale, device).ok().flatten(),
                false => None,
            };
            author.refuse(error.at_first(found));
        }
    }
    // Without a check, the version has changed with the parameters.
    if device.is_checked() && step.update.is_some() {
        store.advance();
    }
    Ok((outcome, stepped))
}

/// Runs the step. On a GPU, where states were assigned, gives the flag that says whether the update was done.
fn submit(
    step: &Step<'_>,
    device: &Device,
    at: &'static Location<'static>,
    assigned: &[Assigned],
) -> Result<(Option<Tensor>, Stepped)> {
    let Step { store, gradients, .. } = *step;
    let (own, others): (Vec<_>, Vec<_>) = match step.update.is_some() {
        true => store.before_update().into_iter().partition(|node| node.is_own()),
        false => Default::default(),
    };
    compute_for_others(device, others);
    let engine = &mut *device.engine();
    let span = device.span(Phase::Key, "collect");
    let roots = roots_of(step, own, assigned);
    let mut snapshot = Snapshot::collect(&roots, gradients.loss())?;
    if let Some(gpu) = device.gpu()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(&roots, gradients.loss())?;
    }
    let outputs = wanted(&snapshot, gradients.transient(), |node| !node.has_value());
    let (accepted, stepped) = match device.gpu() {
        None => (None, Stepped { reached: step_cpu(step, &snapshot, &outputs, at)?, parts: vec![] }),
        Some(gpu) => {
            let asks = step.end().is_some() && !assigned.is_empty();
            engine.words.clear();
            gradients.key(&mut engine.words);
            snapshot.words(&mut engine.words);
            engine.words.extend(outputs.iter().map(|&i| i as u64));
            engine.words.extend(&step.key);
            engine.words.push(u64::from(asks));
            drop(span);
            let make = |unfused, target: &Target| plan_step(step, &snapshot, &outputs, target, unfused, asks, at);
            let update = step.update.as_ref();
            let numbers = update.map_or(&[][..], |update| &update.numbers);
            let status = step.end().map(|update| &update.status.place);
            let ran = engine.run(gpu, &snapshot, &outputs, make, numbers, status)?;
            engine.await_report(ran.status, step.number, step.author);
            (ran.extra, Stepped { reached: ran.reached, parts: ran.parts })
        }
    };
    // Before another run can look at the parameters. A check looks at those that the step began with.
    if step.update.is_some() && !device.is_checked() {
        store.advance();
    }
    let flag = accepted.map(|buffer| {
        let meta = Meta { shape: Shape::SCALAR, dtype: DType::Bool };
        let flag = Tensor::leaf(device, meta, Source::Stored, at);
        flag.node().set_value(Value::Gpu(GpuValue::new(buffer, 1, DType::Bool, None)));
        flag
    });
    Ok((flag, stepped))
}

/// The step on the reference.
fn step_cpu(
    step: &Step<'_>,
    snapshot: &Snapshot,
    outputs: &[usize],
    at: &'static Location<'static>,
) -> Result<Vec<bool>> {
    let (snapshot, reached) = with_gradients(step, snapshot, outputs, at)?;
    let keep: Vec<usize> = snapshot.roots.iter().map(|&root| root as usize).collect();
    let values = cpu::interpret(&snapshot, &keep)?;
    let (held, roots) = keep.split_at(outputs.len());
    store_cpu(&snapshot, held, &values);
    let with_gradient = reached.iter().zip(&step.targets).filter(|(reached, _)| **reached);
    for (&root, (_, target)) in roots.iter().zip(with_gradient) {
        let value = values[root].as_ref().ok_or_else(|| Error::internal("a gradient was not computed"))?;
        let mut gradients = target.arena.cpu()?;
        for (gradient, part) in gradients[target.offset..].iter_mut().zip(&value.data) {
            *gradient = if target.adds { *gradient + part } else { *part };
        }
    }
    let value = step.gradients.loss().and_then(|loss| loss.value());
    let finite = match &value {
        Some(Value::Cpu(loss)) => loss.data.iter().all(|x| x.is_finite()),
        _ => true,
    };
    if let Some(update) = &step.update {
        (update.reference)(&reached, finite)?;
    }
    Ok(reached)
}
