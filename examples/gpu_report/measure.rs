//! Times on a device, and the lines of the report.

use std::time::{Duration, Instant};

use anyhow::Result;
use kiln::Tensor;
use kiln::prelude::*;
use serde_json::{Value, json};

/// What was measured so far, and the time that is left for the section.
pub struct Report {
    pub device: Device,
    /// The smallest sizes alone.
    pub quick: bool,
    /// Every case of every op, however long it takes.
    pub all_cases: bool,
    /// GB/s of a copy, once it is known.
    pub copy: Option<f64>,
    pub lines: Vec<Value>,
    pub left_out: Vec<String>,
    pub disagreements: usize,
    section: &'static str,
    until: Option<Instant>,
}

/// Seconds of a call: the first, which compiles, and the best and the median of those after it.
#[derive(Clone, Copy)]
pub struct Times {
    pub first: f64,
    pub best: f64,
    pub median: f64,
}

impl Report {
    pub fn new(device: &Device, quick: bool, all_cases: bool) -> Report {
        Report {
            device: device.clone(),
            quick,
            all_cases,
            copy: None,
            lines: vec![],
            left_out: vec![],
            disagreements: 0,
            section: "",
            until: None,
        }
    }

    /// A section that is to end then.
    pub fn begin(&mut self, section: &'static str, until: Option<Instant>) {
        (self.section, self.until) = (section, until);
        println!("\n{section}");
    }

    /// Seconds that the section has left.
    pub fn left(&self) -> f64 {
        self.until.map_or(f64::MAX, |until| until.saturating_duration_since(Instant::now()).as_secs_f64())
    }

    /// False, and a note, if a measurement that takes so many seconds has no time any more.
    pub fn has_time(&mut self, name: &str, seconds: f64) -> bool {
        let has = self.left() > seconds;
        if !has {
            self.leave_out(name);
        }
        has
    }

    /// Notes what is not measured.
    pub fn leave_out(&mut self, name: &str) {
        self.left_out.push(format!("{}/{name}", self.section));
    }

    /// Prints a line, and keeps it.
    pub fn line(&mut self, name: &str, text: &str, figures: Value) {
        println!("  {name:<32} {text}");
        let mut line = json!({ "section": self.section, "name": name });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), figures) {
            line.extend(more);
        }
        self.lines.push(line);
    }

    /// A stored tensor of numbers in [-1, 1).
    pub fn random(&self, shape: &[usize], seed: u64) -> Result<Tensor> {
        let stored = self.device.uniform(shape, -1.0, 1.0, seed) * 1.0;
        self.device.eval(&[&stored])?;
        Ok(stored)
    }

    /// Times a call that gives what it computes: all is held until after the submission, so that none is left out.
    pub fn time(&self, mut call: impl FnMut() -> Result<Vec<Tensor>>) -> Result<Times> {
        let device = self.device.clone();
        self.time_steps(|| {
            let results = call()?;
            device.eval(&results.iter().collect::<Vec<_>>())?;
            Ok(())
        })
    }

    /// Times a call that runs by itself.
    pub fn time_steps(&self, mut call: impl FnMut() -> Result<()>) -> Result<Times> {
        let device = self.device.clone();
        let mut calls = |count: usize| -> Result<f64> {
            let began = Instant::now();
            (0..count).try_for_each(|_| call())?;
            device.synchronize()?;
            Ok(began.elapsed().as_secs_f64() / count as f64)
        };
        device.synchronize()?;
        let first = calls(1)?;
        // The second may still make what a first one did not.
        let mut once = calls(1)?;
        // A slow device has time for few.
        let room = (0.25 * self.left()).clamp(0.0, 2.0);
        if once < 0.1 * room {
            once = calls(3)?;
        }
        let batch = if self.quick { 0.02 } else { 0.15f64 }.min(room / 5.0);
        let count = ((batch / once.max(1e-7)) as usize).clamp(1, 10_000);
        let (mut all, began) = (vec![once], Instant::now());
        while all.len() < 6 && began.elapsed() < Duration::from_secs_f64(room) {
            all.push(calls(count)?);
        }
        all.sort_by(f64::total_cmp);
        Ok(Times { first, best: all[0], median: all[all.len() / 2] })
    }

    /// The line of a call that does so many operations.
    pub fn operations(&mut self, name: &str, operations: f64, times: Times) {
        let rate = operations / times.best;
        let text = match rate {
            rate if rate >= 1e12 => format!("{:8.2} TFLOP/s", rate * 1e-12),
            rate => format!("{:8.2} GFLOP/s", rate * 1e-9),
        };
        let text = format!("{text}  {:9.3} ms  first {:.2} s", 1e3 * times.best, times.first);
        let figures = json!({
            "flops_per_s": rate, "best_s": times.best, "median_s": times.median, "first_s": times.first,
        });
        self.line(name, &text, figures);
    }

    /// The line of a call that must move so many bytes.
    pub fn bytes(&mut self, name: &str, bytes: f64, times: Times) {
        let rate = bytes / times.best;
        let share = self.copy.map(|copy| rate / copy);
        let of_copy = share.map_or(String::new(), |share| format!("  {:3.0} % of a copy", 100.0 * share));
        let text =
            format!("{:8.2} GB/s  {:9.3} ms{of_copy}  first {:.2} s", rate * 1e-9, 1e3 * times.best, times.first);
        let figures = json!({
            "bytes_per_s": rate, "share_of_copy": share, "best_s": times.best, "median_s": times.median,
            "first_s": times.first,
        });
        self.line(name, &text, figures);
    }
}
