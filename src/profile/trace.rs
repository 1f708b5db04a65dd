//! The same as a trace for Perfetto (ui.perfetto.dev) and chrome://tracing: JSON in the Trace Event Format.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::Profile;
use super::recorder::{Event, Track};
use crate::error::{Error, Result};

const HOST: u64 = 1;
const DEVICE: u64 = 2;

/// Nanoseconds as the format's microseconds, exactly.
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

impl Profile {
    /// A trace of all runs: a track for each thread of the host, one for the device.
    ///
    /// The device's clock is laid on the host's so that no run begins before it was submitted and the closest one begins
    /// just then. At most 200,000 events are kept, the earliest.
    pub fn trace(&self) -> String {
        let mut events = vec![
            metadata("process_name", HOST, 0, "host"),
            metadata("process_name", DEVICE, 0, &self.device),
            metadata("thread_name", DEVICE, 1, "kernels"),
        ];
        let mut threads: Vec<u64> = vec![];
        let run = |event: &Event| match event.track {
            Track::Run { submitted } => Some(submitted as i128 - i128::from(event.start)),
            _ => None,
        };
        let shift = self.events.iter().filter_map(run).max().unwrap_or(0);
        for event in &self.events {
            let on_host = |start: u64| (i128::from(start) + shift).max(0) as u64;
            let (process, thread, category, start, args) = match &event.track {
                Track::Host(thread, phase) => {
                    if !threads.contains(thread) {
                        threads.push(*thread);
                        events.push(metadata("thread_name", HOST, *thread, &format!("thread {thread}")));
                    }
                    (HOST, *thread, phase.name(), event.start, json!({}))
                }
                Track::Run { .. } => (DEVICE, 1, "run", on_host(event.start), json!({})),
                Track::Kernel(label) => {
                    let [x, y] = label.grid;
                    let args = json!({"workgroups": format!("{x}x{y}"), "bytes": label.bytes, "flops": label.flops});
                    (DEVICE, 1, "kernel", on_host(event.start), args)
                }
            };
            events.push(json!({
                "ph": "X", "name": *event.name, "cat": category, "pid": process, "tid": thread,
                "ts": microseconds(start), "dur": microseconds(event.length), "args": args,
            }));
        }
        let mut text = String::from("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n");
        for (i, event) in events.iter().enumerate() {
            let comma = if i == 0 { "" } else { ",\n" };
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{event}");
        }
        let _ =
            write!(text, "\n],\"otherData\":{}}}\n", json!({"device": self.device, "events_left_out": self.dropped}));
        text
    }

    /// Writes [`Profile::trace`] to a file.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn write_trace(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        std::fs::write(path, self.trace()).map_err(|error| Error::io(path, "write", error))
    }
}

fn metadata(kind: &str, process: u64, thread: u64, name: &str) -> serde_json::Value {
    json!({"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {"name": name}})
}
