//! Collects spans of the host and times of kernels, in bounded memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::{Clock, HostProfile, KernelProfile, Phase, Profile};
use crate::clock::Instant;

/// Events kept for a trace; later ones are counted and dropped.
const EVENTS: usize = 200_000;
/// Times kept of one kernel or phase, the latest: enough for a median.
const SAMPLES: usize = 4096;

/// What a kernel is, apart from when it ran.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Label {
    pub name: Arc<str>,
    pub grid: [u32; 2],
    pub bytes: u64,
    pub flops: u64,
}

/// Where an event happened.
#[derive(Debug, Clone)]
pub(super) enum Track {
    /// On this thread.
    Host(u64, Phase),
    /// On the device, as a dispatch; on its clock.
    Kernel(Label),
    /// On the device, from the first dispatch of a run to its last, with the host time of its submission.
    Run { submitted: u64 },
}

/// Something that took time, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub name: Arc<str>,
    pub track: Track,
    pub start: u64,
    pub length: u64,
}

/// What to do when the device is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    Nothing = 0,
    ByName = 1,
    ByGrid = 2,
}

#[derive(Default)]
struct Samples {
    calls: u64,
    total: u64,
    latest: Vec<u64>,
    bytes: u64,
    flops: u64,
}

impl Samples {
    fn add(&mut self, nanoseconds: u64) {
        match self.latest.len() < SAMPLES {
            true => self.latest.push(nanoseconds),
            false => self.latest[(self.calls % SAMPLES as u64) as usize] = nanoseconds,
        }
        self.calls += 1;
        self.total += nanoseconds;
    }

    fn median(&self) -> Duration {
        let mut sorted = self.latest.clone();
        sorted.sort_unstable();
        Duration::from_nanos(sorted.get(sorted.len() / 2).copied().unwrap_or(0))
    }
}

#[derive(Default)]
struct Book {
    runs: u64,
    phases: [Samples; 7],
    kernels: HashMap<(Arc<str>, [u32; 2]), Samples>,
    events: Vec<Event>,
    dropped: u64,
    clock: Option<Clock>,
}

/// The profiler of a device.
pub(crate) struct Recorder {
    on: AtomicBool,
    report: AtomicU8,
    /// When it was switched on, in nanoseconds from `epoch`.
    since: AtomicU64,
    epoch: Instant,
    book: Mutex<Book>,
}

/// A stretch of host time; it ends when dropped.
pub(crate) struct Span<'a>(Option<Open<'a>>);

struct Open<'a> {
    recorder: &'a Recorder,
    phase: Phase,
    name: &'static str,
    start: u64,
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let Some(Open { recorder, phase, name, start }) = self.0.take() else { return };
        let length = recorder.now().saturating_sub(start);
        let mut book = recorder.book();
        book.phases[phase as usize].add(length);
        book.event(Event { name: name.into(), track: Track::Host(thread(), phase), start, length });
    }
}

/// A small number for this thread.
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

impl Book {
    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS { self.events.push(event) } else { self.dropped += 1 }
    }
}

impl Recorder {
    pub fn new() -> Recorder {
        Recorder {
            on: AtomicBool::new(false),
            report: AtomicU8::new(Report::Nothing as u8),
            since: AtomicU64::new(0),
            epoch: Instant::now(),
            book: Mutex::default(),
        }
    }

    /// True while it measures: the one thing that a run without profile looks at.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Starts anew, or stops and keeps what there is.
    pub fn switch(&self, on: bool) {
        if on && !self.is_on() {
            *self.book() = Book::default();
            self.since.store(self.now(), Ordering::Relaxed);
        }
        self.on.store(on, Ordering::Relaxed);
    }

    /// Stops without an end, or goes on: for runs that are not the program's. True if it was measuring.
    pub fn pause(&self, pause: bool) -> bool {
        self.on.swap(!pause, Ordering::Relaxed)
    }

    pub fn report_at_end(&self, report: Report) {
        self.report.store(report as u8, Ordering::Relaxed);
    }

    pub fn report(&self) -> Report {
        [Report::Nothing, Report::ByName, Report::ByGrid][usize::from(self.report.load(Ordering::Relaxed))]
    }

    /// Nanoseconds since the device was made.
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// Begins a span of `phase`.
    #[inline]
    pub fn span(&self, phase: Phase, name: &'static str) -> Span<'_> {
        Span(self.is_on().then(|| Open { recorder: self, phase, name, start: self.now() }))
    }

    /// Notes a finished run: for each dispatch its begin and end on the device's clock, if it has one.
    pub fn run(&self, labels: &[Label], times: Option<&[(u64, u64)]>, submitted: u64, clock: Clock) {
        let mut book = self.book();
        book.clock = Some(clock);
        book.runs += 1;
        for (i, label) in labels.iter().enumerate() {
            let samples = book.kernels.entry((label.name.clone(), label.grid)).or_default();
            samples.bytes += label.bytes;
            samples.flops += label.flops;
            match times.and_then(|times| times.get(i)) {
                Some((begin, end)) => samples.add(end.saturating_sub(*begin)),
                None => samples.calls += 1,
            }
        }
        let Some(times) = times.filter(|times| !times.is_empty()) else { return };
        let first = times[0].0;
        let last = times.iter().map(|time| time.1).max().unwrap_or(first);
        let name = format!("run {}", book.runs).into();
        book.event(Event { name, track: Track::Run { submitted }, start: first, length: last.saturating_sub(first) });
        for (label, &(begin, end)) in labels.iter().zip(times) {
            let length = end.saturating_sub(begin);
            book.event(Event { name: label.name.clone(), track: Track::Kernel(label.clone()), start: begin, length });
        }
    }

    /// What there is so far.
    pub fn profile(&self, device: String, clock: Clock) -> Profile {
        let book = self.book();
        let mut kernels: Vec<KernelProfile> = book
            .kernels
            .iter()
            .map(|((name, grid), samples)| KernelProfile {
                name: name.to_string(),
                grid: Some(*grid),
                calls: samples.calls,
                total: Duration::from_nanos(samples.total),
                median: samples.median(),
                bytes: samples.bytes,
                flops: samples.flops,
            })
            .collect();
        kernels.sort_by(|a, b| b.total.cmp(&a.total).then_with(|| a.name.cmp(&b.name)).then(a.grid.cmp(&b.grid)));
        let host = Phase::ALL.map(|phase| {
            let samples = &book.phases[phase as usize];
            let total = Duration::from_nanos(samples.total);
            HostProfile { phase, calls: samples.calls, total, median: samples.median() }
        });
        Profile {
            device,
            runs: book.runs,
            elapsed: Duration::from_nanos(self.now().saturating_sub(self.since.load(Ordering::Relaxed))),
            clock: book.clock.unwrap_or(clock),
            kernels,
            host: host.to_vec(),
            events: book.events.clone(),
            dropped: book.dropped,
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
