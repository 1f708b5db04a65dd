//! Measuring the variants of a kernel (`KILN_TUNE=on`): each runs alone on buffers of the class's size, and the fastest is
//! kept for all plans to come and for programs to come.

use std::sync::Mutex;
use std::time::Duration;

use super::plans::Engine;
use crate::clock::Instant;
use crate::dispatch::{Open, Plan, Rival};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuValue, Leaf};
use crate::target::Choice;

/// A variant is measured in this many batches, of which the fastest counts, each about this long.
const BATCHES: usize = 3;
const BATCH: Duration = Duration::from_millis(15);
/// A variant must beat the default by this much: less is noise, and the default has one pipeline for all.
const GAIN: f64 = 0.95;

impl Engine {
    /// Decides every class that is open, by measurement while the time for it lasts.
    pub(super) fn tune(&mut self, gpu: &Gpu, open: Vec<Open>) -> Result<()> {
        // A profile is of the program's runs, not of these.
        let profiled = gpu.recorder().is_on() && gpu.recorder().pause(true);
        let result = decide(gpu, open);
        if profiled {
            gpu.recorder().pause(false);
        }
        result
    }
}

fn decide(gpu: &Gpu, open: Vec<Open>) -> Result<()> {
    for Open { class, rivals } in open {
        if gpu.is_settled(&class) {
            continue;
        }
        let left = gpu.tuning_left();
        if left.is_zero() {
            gpu.settle(&class, None);
            gpu.warn("KILN_TUNE_SECONDS are used up: kernels that were not measured are the built-in ones");
            continue;
        }
        let started = Instant::now();
        let chosen = measure(gpu, &class, rivals, started + left);
        gpu.spend_tuning(started.elapsed());
        gpu.settle(&class, chosen?);
    }
    gpu.save_choices();
    Ok(())
}

/// The fastest of them; `None` if time ran out before a comparison, or none runs.
fn measure(gpu: &Gpu, class: &str, rivals: Vec<Rival>, until: Instant) -> Result<Option<Choice>> {
    let mut times: Vec<(Choice, f64)> = vec![];
    for Rival { choice, plan, inputs } in rivals {
        if Instant::now() >= until {
            return Ok(None);
        }
        match time(gpu, plan, &inputs) {
            Ok(seconds) => times.push((choice, seconds)),
            Err(error @ (Error::DeviceLost { .. } | Error::Internal { .. })) => return Err(error),
            // A driver may refuse a variant, or its memory: the others are still there.
            Err(_) => {}
        }
    }
    let Some(default) = times.first().map(|(_, seconds)| *seconds) else { return Ok(None) };
    let (best, seconds) = times.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(&times[0]);
    let chosen = if *seconds < GAIN * default { best } else { &times[0].0 };
    let list: Vec<String> = times.iter().map(|(choice, s)| format!("{} {:.3} ms", choice.variant, s * 1e3)).collect();
    eprintln!("kiln: tuned {class}: {} -> {}", list.join(", "), chosen.variant);
    Ok(Some(chosen.clone()))
}

/// Seconds of one run.
fn time(gpu: &Gpu, plan: Plan, inputs: &[usize]) -> Result<f64> {
    let mut values = vec![];
    for &elements in inputs {
        // Four bytes an element, whatever the type: the values do not matter, but they must be ordinary numbers.
        let data = crate::host::HostData::F32(vec![0.5; elements]);
        values.push(gpu.upload(&data, DType::F32)?);
    }
    let values: Mutex<Vec<GpuValue>> = Mutex::new(values);
    let mut compiled = gpu.compile(plan)?;
    let mut run = || -> Result<()> {
        let leaf = |number: usize| {
            let values = values.lock().unwrap_or_else(|broken| broken.into_inner());
            let value = values.get(number).cloned();
            value.map(Leaf::Stored).ok_or_else(|| Error::internal("a measured op has an input too many"))
        };
        gpu.run(&mut compiled, leaf, &[], None).map(drop)
    };
    let mut batch = |count: u32| -> Result<f64> {
        let started = Instant::now();
        (0..count).try_for_each(|_| run())?;
        gpu.wait()?;
        Ok(started.elapsed().as_secs_f64() / f64::from(count))
    };
    // The first run compiles, on some drivers; the second says how many make a batch.
    batch(1)?;
    let once = batch(1)?;
    let count = (BATCH.as_secs_f64() / once.max(1e-6)).ceil().clamp(1.0, 64.0) as u32;
    let mut best = once;
    for _ in 0..BATCHES {
        best = best.min(batch(count)?);
    }
    Ok(best)
}
