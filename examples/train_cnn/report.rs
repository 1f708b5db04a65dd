//! What a person and a program read of a run.

use std::collections::HashSet;
use std::fs;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use kiln::plan::Plan;
use serde_json::{Value, json};

/// Figures of one epoch.
#[derive(Debug, Clone)]
pub struct Epoch {
    pub number: u64,
    pub train_loss: f64,
    pub train_accuracy: f64,
    pub test_loss: f64,
    pub test_accuracy: f64,
    pub seconds: f64,
}

impl Epoch {
    pub fn json(&self) -> Value {
        json!({
            "epoch": self.number,
            "train_loss": self.train_loss,
            "train_accuracy": self.train_accuracy,
            "test_loss": self.test_loss,
            "test_accuracy": self.test_accuracy,
            "seconds": self.seconds,
        })
    }
}

/// A progress bar on a terminal, a line every few seconds elsewhere.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
    done: u64,
    images: u64,
    started: Instant,
    spoken: Instant,
}

impl Progress {
    pub fn new(steps: u64, done: u64) -> Progress {
        let bar = std::io::stdout().is_terminal().then(|| {
            let bar = ProgressBar::new(steps);
            if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} steps  {msg}  {eta} left") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_position(done);
            bar
        });
        let now = Instant::now();
        Progress { bar, steps, done, images: 0, started: now, spoken: now }
    }

    pub fn step(&mut self, images: usize, loss: f64, accuracy: f64) {
        self.done += 1;
        self.images += images as u64;
        let rate = self.images as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
        let text = format!("loss {loss:.4}  accuracy {:5.1} %  {rate:.0} images/s", 100.0 * accuracy);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
            bar.set_message(text);
        } else if self.spoken.elapsed() > Duration::from_secs(5) {
            self.spoken = Instant::now();
            let left = self.spoken.duration_since(self.started).as_secs_f64() / self.done.max(1) as f64
                * (self.steps.saturating_sub(self.done)) as f64;
            println!("step {}/{}  {text}  {left:.0} s left", self.done, self.steps);
        }
    }

    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => println!("{text}"),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a plan to a folder: `plan.txt`, a line a dispatch, and each text of a kernel once, under the number and the name of the
/// first dispatch that runs it.
pub fn write_plan(folder: &Path, plan: &Plan) -> Result<()> {
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    };
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    write("plan.txt", &plan.to_string())?;
    let mut written = HashSet::new();
    for (number, dispatch) in plan.dispatches.iter().enumerate() {
        if written.insert(dispatch.source()) {
            let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
            let name: String = dispatch.name().chars().map(plain).take(100).collect();
            write(&format!("{number:03}_{name}.wgsl"), dispatch.source())?;
        }
    }
    Ok(())
}

/// Largest resident size of this process, where the system tells.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}
