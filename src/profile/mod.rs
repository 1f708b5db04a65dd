//! Where the time of a program goes: per kernel on the device's own clock, per kind of work on the host's.
//!
//! `KILN_PROFILE=1` measures from the first run on and prints the table to stderr when the device is dropped; `2` gives
//! each grid of a kernel a line of its own. [`Device::set_profiling`] and [`Device::profile`] do it from a program. Off,
//! it costs a flag that is looked at a few times a run.
//!
//! [`Device::set_profiling`]: crate::Device::set_profiling
//! [`Device::profile`]: crate::Device::profile

mod recorder;
mod trace;

use std::fmt;
use std::time::Duration;

pub(crate) use recorder::{Label, Recorder, Report, Span};

/// What the host does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Recording ops, in the calls of the program.
    Record,
    /// Collecting what was recorded and looking its plan up.
    Key,
    /// Gradients and planning, where there was no plan.
    Plan,
    /// Pipelines and uniforms of a new plan.
    Compile,
    /// Bind groups, uploads and the list of dispatches.
    Encode,
    /// Handing the list to the driver; software drivers run much of it there.
    Submit,
    /// Waiting for the device: reads, synchronising, and the oldest step when enough are queued.
    Wait,
}

impl Phase {
    const ALL: [Phase; 7] =
        [Phase::Record, Phase::Key, Phase::Plan, Phase::Compile, Phase::Encode, Phase::Submit, Phase::Wait];

    /// One word, as in the table.
    pub fn name(self) -> &'static str {
        ["record", "key", "plan", "compile", "encode", "submit", "wait"][self as usize]
    }

    pub(crate) fn meaning(self) -> &'static str {
        [
            "recording ops in the program's calls",
            "collecting what was recorded, finding its plan",
            "gradients and planning of what is new",
            "pipelines of what is new",
            "uploads and the list of dispatches",
            "handing it to the driver (software drivers compute here)",
            "for the device: reads, and steps queued ahead",
        ][self as usize]
    }
}

/// How the kernels were timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Timestamps between the dispatches of one pass.
    InsidePass,
    /// Timestamps at the bounds of a pass a kernel: overlap and the cost of a pass differ from a run without profile.
    PassEach,
    /// The adapter has none: kernels are counted, not timed.
    Missing,
}

/// A kernel's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelProfile {
    /// Name, with the variant and the number of ops fused into it (`conv2d.subgroup +2`).
    pub name: String,
    /// Workgroups in x and y; `None` where lines of several grids are added up.
    pub grid: Option<[u32; 2]>,
    /// Number of dispatches.
    pub calls: u64,
    /// Time of all calls.
    pub total: Duration,
    /// Time of the middle call.
    pub median: Duration,
    /// Bytes that all calls moved: by default what they bind, each binding once.
    pub bytes: u64,
    /// Floating-point operations of all calls, 0 where the op does not say.
    pub flops: u64,
}

impl KernelProfile {
    fn rate(&self, work: u64) -> Option<f64> {
        let seconds = self.total.as_secs_f64();
        (work > 0 && seconds > 0.0).then(|| work as f64 / seconds / 1e9)
    }

    /// Bytes moved a nanosecond.
    pub fn gigabytes_per_second(&self) -> Option<f64> {
        self.rate(self.bytes)
    }

    /// Floating-point operations a nanosecond.
    pub fn gigaflops(&self) -> Option<f64> {
        self.rate(self.flops)
    }
}

/// A phase's figures.
#[derive(Debug, Clone, PartialEq)]
pub struct HostProfile {
    /// Which.
    pub phase: Phase,
    /// Number of spans.
    pub calls: u64,
    /// Time of all.
    pub total: Duration,
    /// Time of the middle one.
    pub median: Duration,
}

/// What was measured since profiling was switched on. It prints as a table; `{:#}` gives each grid of a kernel its line.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Name, back end and driver of the device.
    pub device: String,
    /// Submissions.
    pub runs: u64,
    /// Time since profiling was switched on.
    pub elapsed: Duration,
    /// How the kernels were timed.
    pub clock: Clock,
    /// One line a kernel and grid, the longest total first.
    pub kernels: Vec<KernelProfile>,
    /// One line a phase.
    pub host: Vec<HostProfile>,
    events: Vec<recorder::Event>,
    dropped: u64,
}

impl Profile {
    /// The figures of each kernel over all its grids, the longest total first.
    pub fn by_name(&self) -> Vec<KernelProfile> {
        let mut all: Vec<KernelProfile> = vec![];
        for kernel in &self.kernels {
            match all.iter_mut().find(|known| known.name == kernel.name) {
                Some(known) => {
                    // The median of the grid with most calls stands for all.
                    if kernel.calls > known.calls {
                        known.median = kernel.median;
                    }
                    known.calls += kernel.calls;
                    known.total += kernel.total;
                    known.bytes += kernel.bytes;
                    known.flops += kernel.flops;
                    known.grid = None;
                }
                None => all.push(kernel.clone()),
            }
        }
        all.sort_by_key(|kernel| std::cmp::Reverse(kernel.total));
        all
    }

    /// Time of all kernels.
    pub fn device_time(&self) -> Duration {
        self.kernels.iter().map(|kernel| kernel.total).sum()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each_grid = f.alternate();
        let kernels = if each_grid { self.kernels.clone() } else { self.by_name() };
        let label = |kernel: &KernelProfile| match kernel.grid.filter(|_| each_grid) {
            Some([x, y]) => format!("{} {x}x{y}", kernel.name),
            None => kernel.name.clone(),
        };
        let all = self.device_time().as_secs_f64();
        let elapsed = self.elapsed.as_secs_f64();
        writeln!(f, "\nprofile of {}", self.device)?;
        write!(f, "{} runs in {elapsed:.2} s", self.runs)?;
        match self.clock {
            Clock::Missing => writeln!(f, "; this adapter has no timestamps, so kernels are only counted")?,
            Clock::InsidePass => writeln!(f, ", kernels {all:.2} s ({:.0} %)", 100.0 * all / elapsed.max(1e-9))?,
            Clock::PassEach => writeln!(
                f,
                ", kernels {all:.2} s ({:.0} %), each in a pass of its own, which this adapter's timestamps need",
                100.0 * all / elapsed.max(1e-9)
            )?,
        }
        let width = kernels.iter().map(|kernel| label(kernel).len()).max().unwrap_or(0).clamp(24, 64);
        let header = ["calls", "total ms", "median us", "share", "GB/s", "GFLOP/s"];
        writeln!(
            f,
            "\n{:width$} {:>8} {:>10} {:>10} {:>7} {:>7} {:>8}",
            "kernel", header[0], header[1], header[2], header[3], header[4], header[5]
        )?;
        let rate = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
        for kernel in &kernels {
            let total = kernel.total.as_secs_f64();
            let mut name = label(kernel);
            if name.chars().count() > width {
                name = name.chars().take(width - 2).collect::<String>() + "..";
            }
            writeln!(
                f,
                "{name:width$} {:>8} {:>10.1} {:>10.1} {:>5.1} % {:>7} {:>8}",
                kernel.calls,
                total * 1e3,
                kernel.median.as_secs_f64() * 1e6,
                if all > 0.0 { 100.0 * total / all } else { 0.0 },
                rate(kernel.gigabytes_per_second()),
                rate(kernel.gigaflops()),
            )?;
        }
        writeln!(f, "\n{:width$} {:>8} {:>10} {:>10} {:>9}", "host", "calls", "total ms", "median us", "us a run")?;
        for line in &self.host {
            let total = line.total.as_secs_f64();
            writeln!(
                f,
                "{:width$} {:>8} {:>10.1} {:>10.1} {:>9.1}  {}",
                line.phase.name(),
                line.calls,
                total * 1e3,
                line.median.as_secs_f64() * 1e6,
                total * 1e6 / self.runs.max(1) as f64,
                line.phase.meaning(),
            )?;
        }
        writeln!(
            f,
            "\nshare: of the time of all kernels. GB/s: the buffers that a kernel binds, each once. GFLOP/s: what its op\n\
             states. A name is op.variant; `+2` says that two ops were fused into it, `a+b` and `a | b` that both are one\n\
             kernel."
        )
    }
}
