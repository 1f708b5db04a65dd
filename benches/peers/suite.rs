//! Running a workload: first call, warming up, samples, its line.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Result, anyhow};
use kiln::prelude::*;
use serde_json::{Value, json};

/// The workloads that were asked for, and their lines so far.
pub struct Suite {
    only: Vec<String>,
    samples: usize,
    budget: f64,
    first_only: bool,
    lines: Vec<Value>,
}

/// What one workload works with: a device of its own, so that one that is lost takes no other workload with it, and the
/// peak of memory is the workload's.
pub struct Bench {
    /// The device.
    pub device: Device,
    samples: usize,
    budget: f64,
    /// True if nothing is timed after the first step or call.
    first_only: bool,
}

impl Suite {
    /// No lines yet.
    pub fn new(only: Vec<String>, samples: usize, budget: f64, first_only: bool) -> Suite {
        Suite { only, samples: samples.max(1), budget, first_only, lines: vec![] }
    }

    /// The lines, as printed.
    pub fn into_lines(self) -> Vec<Value> {
        self.lines
    }

    /// The time from nothing to a device that has computed something.
    pub fn device_init(&mut self) {
        self.run("device_init", |bench| {
            let started = Instant::now();
            Device::best()?.zeros(&[4]).plus(1.0).to_vec::<f32>()?;
            bench.line("s", vec![started.elapsed().as_secs_f64()], json!({}))
        });
    }

    /// Prints the line of `workload`, if it was asked for: what it measured, or its error.
    pub fn run(&mut self, name: &str, workload: impl FnOnce(&Bench) -> Result<Value>) {
        if !self.only.is_empty() && !self.only.iter().any(|prefix| name.starts_with(prefix.as_str())) {
            return;
        }
        let (samples, budget, first_only) = (self.samples, self.budget, self.first_only);
        let mut line = json!({ "peer": "kiln", "device": null, "workload": name });
        let bench = Device::best().map(|device| Bench { device, samples, budget, first_only });
        let measured = bench.map_err(Into::into).and_then(|bench| {
            line["device"] = bench.device.name().into();
            // Not ours to panic, but a driver's library may.
            catch_unwind(AssertUnwindSafe(|| workload(&bench)))
                .unwrap_or_else(|_| Err(anyhow!("the workload panicked")))
        });
        let more = measured.unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        println!("{line}");
        self.lines.push(line);
    }
}

impl Bench {
    /// Uniform numbers in [-1, 1) in a buffer of the device.
    pub fn random(&self, shape: &[usize], seed: u64) -> Result<Tensor> {
        let stored = self.device.uniform(shape, -1.0, 1.0, seed) * 1.0;
        self.device.eval(&[&stored])?;
        Ok(stored)
    }

    /// Times `call`, which does `work` units and gives the results that it computed: they are held until after the
    /// submission, so none is left out and no two calls become one.
    pub fn op(&self, metric: &str, work: f64, mut call: impl FnMut() -> Result<Vec<Tensor>>) -> Result<Value> {
        let mut call = || -> Result<()> {
            let results = call()?;
            self.device.eval(&results.iter().collect::<Vec<_>>())?;
            Ok(())
        };
        let mut synchronized = |calls: usize| -> Result<f64> {
            let started = Instant::now();
            (0..calls).try_for_each(|_| call())?;
            self.device.synchronize()?;
            Ok(started.elapsed().as_secs_f64())
        };
        self.device.synchronize()?;
        let first = synchronized(1)?;
        if self.first_only {
            return self.line(metric, vec![], json!({ "first_call_s": first }));
        }
        let one = self.warm_up(|| synchronized(1))?;
        let calls = ((0.15 / one) as usize).clamp(1, 5000);
        let values = (0..self.sample_count(one * calls as f64))
            .map(|_| Ok(work * calls as f64 / synchronized(calls)?))
            .collect::<Result<Vec<f64>>>()?;
        self.line(metric, values, json!({ "first_call_s": first }))
    }

    /// Times training: `step` does one step of `units` and gives its loss.
    pub fn train(&self, metric: &str, units: f64, mut step: impl FnMut() -> Result<Tensor>) -> Result<Value> {
        let started = Instant::now();
        let first_loss = step()?.item()?;
        let first = started.elapsed().as_secs_f64();
        if self.first_only {
            return self.line(metric, vec![], json!({ "first_step_s": first, "loss_first": first_loss }));
        }
        let mut last_loss = first_loss;
        let mut tens = |count: usize| -> Result<f64> {
            self.device.synchronize()?;
            let started = Instant::now();
            for _ in 0..count {
                for i in 0..10 {
                    let loss = step()?;
                    if i == 9 {
                        last_loss = loss.item()?;
                    }
                }
            }
            self.device.synchronize()?;
            Ok(started.elapsed().as_secs_f64())
        };
        let one = self.warm_up(|| tens(1))?;
        let count = ((0.15 / one) as usize).clamp(1, 100);
        let values = (0..self.sample_count(one * count as f64))
            .map(|_| Ok(units * 10.0 * count as f64 / tens(count)?))
            .collect::<Result<Vec<f64>>>()?;
        let more = json!({ "first_step_s": first, "loss_first": first_loss, "loss_last": last_loss });
        self.line(metric, values, more)
    }

    /// Runs until the time is steady and half a second has passed; the seconds of the last run.
    fn warm_up(&self, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
        let (started, mut last, mut steady) = (Instant::now(), f64::MAX, 0);
        for runs in 1.. {
            let seconds = run()?;
            steady = if seconds > 0.7 * last { steady + 1 } else { 0 };
            last = seconds;
            let spent = started.elapsed().as_secs_f64();
            if runs >= 3 && (steady >= 2 && spent > 0.5 || runs >= 3000 || spent > 4.0 * self.budget) {
                break;
            }
        }
        Ok(last)
    }

    fn sample_count(&self, seconds: f64) -> usize {
        let least = if seconds < 4.0 { 5.min(self.samples) } else { 1 };
        ((self.budget / seconds) as usize).clamp(1, self.samples).max(least)
    }

    fn line(&self, metric: &str, mut values: Vec<f64>, more: Value) -> Result<Value> {
        values.sort_by(f64::total_cmp);
        let mut line = json!({
            "metric": metric,
            "median": (!values.is_empty()).then(|| median(&values)),
            "min": values.first(),
            "max": values.last(),
            "n": values.len(),
            "dispatches": self.device.statistics().dispatches,
            "peak_device_mib": self.device.memory().1 as f64 / f64::from(1 << 20),
            "peak_rss_mib": peak_rss_mib(),
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        Ok(line)
    }
}

/// The middle of sorted values.
pub fn median(sorted: &[f64]) -> f64 {
    let n = sorted.len();
    if n % 2 == 1 { sorted[n / 2] } else { (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0 }
}

/// Peak resident size of the process so far, where the system tells.
fn peak_rss_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib / 1024)
}
