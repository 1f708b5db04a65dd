//! Measuring the variants of a kernel (`KILN_TUNE=on`): each runs alone on buffers of the class's size, and the fastest whose
//! results are those of the default is kept for all plans to come and for programs to come.

use std::time::Duration;

use super::plans::Engine;
use crate::clock::Instant;
use crate::dispatch::{Open, Plan, Rival};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuValue, Leaf};
use crate::layout::Meta;
use crate::target::Choice;

/// A variant is measured in this many batches, of which the fastest counts, each about this long.
const BATCHES: usize = 3;
const BATCH: Duration = Duration::from_millis(15);
/// A variant must beat the default by this much: less is noise, and the default has one pipeline for all.
const GAIN: f64 = 0.95;
/// Elements at the beginning and as many at the end of each result that are compared with the default's.
const COMPARED: usize = 1 << 19;

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
    let mut wanted: Option<Vec<Vec<f64>>> = None;
    for Rival { choice, plan, inputs, results } in rivals {
        if Instant::now() >= until {
            return Ok(None);
        }
        match time(gpu, plan, &inputs, &results) {
            Ok((_, computed)) if wanted.as_ref().is_some_and(|wanted| !agree_all(wanted, &computed)) => {
                let default = times.first().map_or("the default", |(choice, _)| choice.variant.as_str());
                gpu.warn(&format!("kernel {} is not taken: its results are not those of {default}", choice.variant));
            }
            Ok((seconds, computed)) => {
                wanted.get_or_insert(computed);
                times.push((choice, seconds));
            }
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

/// Numbers whose order shows, with so few digits that either half of their bits is an ordinary number in half precision.
fn numbers(elements: usize) -> Vec<f32> {
    let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 26) as f32 / 64.0 - 0.453_125;
    (0..elements as u32).map(number).collect()
}

/// [`agree`] of each result by itself: a small one must not hide behind a large one.
fn agree_all(wanted: &[Vec<f64>], got: &[Vec<f64>]) -> bool {
    wanted.len() == got.len() && wanted.iter().zip(got).all(|(wanted, got)| agree(wanted, got))
}

/// True if two variants computed the same but for rounding, that of half precision included.
fn agree(wanted: &[f64], got: &[f64]) -> bool {
    let largest = wanted.iter().filter(|x| x.is_finite()).fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let is_near = |(w, g): (&f64, &f64)| w == g || w.is_nan() && g.is_nan() || (w - g).abs() <= 0.01 * largest;
    wanted.len() == got.len() && wanted.iter().zip(got).all(is_near)
}

/// Seconds of one run, and both ends of all that it computed.
fn time(gpu: &Gpu, plan: Plan, inputs: &[usize], results: &[Meta]) -> Result<(f64, Vec<Vec<f64>>)> {
    let mut values = vec![];
    for &elements in inputs {
        // Four bytes an element, whatever the type.
        let data = crate::host::HostData::F32(numbers(elements));
        values.push(gpu.upload(&data, DType::F32)?);
    }
    let mut compiled = gpu.compile(plan)?;
    let mut run = || -> Result<Vec<GpuValue>> {
        let leaf = |number: usize| {
            let value = values.get(number).cloned();
            value.map(Leaf::Stored).ok_or_else(|| Error::internal("a measured op has an input too many"))
        };
        let outputs = gpu.run(&mut compiled, leaf, &[], None)?.outputs;
        let value = |((buffer, read), meta): (_, &Meta)| GpuValue::new(buffer, meta.elements(), meta.dtype, read);
        Ok(outputs.into_iter().zip(results).map(value).collect())
    };
    // The first run compiles, on some drivers; the second says how many make a batch.
    let computed = run()?;
    gpu.wait()?;
    let computed = computed.iter().zip(results).map(|(value, meta)| ends(gpu, value, meta.elements()));
    let computed = computed.collect::<Result<_>>()?;
    let mut batch = |count: u32| -> Result<f64> {
        let started = Instant::now();
        (0..count).try_for_each(|_| run().map(drop))?;
        gpu.wait()?;
        Ok(started.elapsed().as_secs_f64() / f64::from(count))
    };
    let once = batch(1)?;
    let count = (BATCH.as_secs_f64() / once.max(1e-6)).ceil().clamp(1.0, 64.0) as u32;
    let mut best = once;
    for _ in 0..BATCHES {
        best = best.min(batch(count)?);
    }
    Ok((best, computed))
}

/// The first and the last [`COMPARED`] elements: what a kernel does with whole blocks, and with what is left of them.
fn ends(gpu: &Gpu, value: &GpuValue, elements: usize) -> Result<Vec<f64>> {
    let first = elements.min(COMPARED);
    let mut ends = gpu.read_part(value, 0, first)?.to_f64();
    // Reads begin at a multiple of four bytes.
    let last = elements.saturating_sub(COMPARED).max(first).next_multiple_of(4);
    if last < elements {
        ends.extend(gpu.read_part(value, last, elements - last)?.to_f64());
    }
    Ok(ends)
}
