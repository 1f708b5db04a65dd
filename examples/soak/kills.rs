//! Runs that are killed every few seconds and go on from their last checkpoint.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use safetensors::SafeTensors;

use crate::program::{KINDS, Soak, Table, ensure};

const SIGNALS: [(Signal, &str); 4] = [
    // As often as the two others together.
    (Signal::SIGKILL, "killed (KILL): the checkpoint is whole"),
    (Signal::SIGTERM, "stopped (TERM): saved and left"),
    (Signal::SIGINT, "stopped (INT): saved and left"),
    (Signal::SIGKILL, "killed (KILL): the checkpoint is whole"),
];

/// One kind of run after the other, until the time is over; the last is brought to its end undisturbed.
pub fn kills(soak: &mut Soak, table: &mut Table, until: Instant) -> Result<()> {
    for kind in KINDS.iter().cycle() {
        killed_run(soak, table, kind, until)?;
        if Instant::now() >= until {
            return Ok(());
        }
    }
    Ok(())
}

fn killed_run(soak: &mut Soak, table: &mut Table, kind: &str, until: Instant) -> Result<()> {
    let time = soak.whole(kind)?.1;
    let folder = soak.fresh()?;
    let [out, checkpoint] = ["out", "run.safetensors"].map(|name| folder.join(name));
    let mut times = 0;
    loop {
        let every = 1 + (soak.chance() * 7.0) as u64;
        let mut command = soak.command(kind, &out, &["--checkpoint-every", &every.to_string(), "--checkpoint"]);
        command.arg(&checkpoint);
        if checkpoint.exists() {
            command.arg("--resume").arg(&checkpoint);
        }
        let mut run = soak.start(command, &folder.join(format!("log-{times}")))?;
        // Anywhere from its start to somewhat beyond the end of an undisturbed run, mostly early.
        let pause = time.mul_f64(0.05 + 0.9 * soak.chance() * soak.chance()).min(Duration::from_secs(8));
        let at = Instant::now() + pause;
        while !run.has_ended()? && (Instant::now() < at || Instant::now() >= until) {
            std::thread::sleep(Duration::from_millis(3));
        }
        if run.has_ended()? {
            let status = run.wait()?;
            let same = soak.are_whole(kind, &out)?;
            let what = "killed runs that end in the bits of an undisturbed one";
            table.note(
                what,
                ensure(status.success() && same, || {
                    format!("after {times} kills ({kind}): {status}, same bits: {same}; {}", run.said())
                }),
            );
            let left: Vec<String> = fs::read_dir(&folder)?
                .flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !(["out", "run.safetensors"].contains(&name.as_str()) || name.starts_with("log-")))
                .collect();
            table.note("folders with nothing left over", ensure(left.is_empty(), || format!("left: {left:?}")));
            println!("soak: a run ({kind}) ended after {times} kills");
            return Ok(());
        }
        let (signal, what) = SIGNALS[(soak.chance() * 4.0) as usize % 4];
        let was_there = checkpoint.exists();
        let is_early = !run.said().contains("model  ");
        run.signal(signal);
        let status = run.wait()?;
        times += 1;
        let whole = match fs::read(&checkpoint) {
            Ok(bytes) => SafeTensors::deserialize(&bytes).map(drop).map_err(|error| format!("a torn file: {error}")),
            Err(_) => ensure(!was_there, || "the checkpoint is gone".into()),
        };
        // Before it listens to signals, while it looks for a device, it ends as any program does; behind the last step it goes on.
        let stopped = run.said().contains("stopped after") || out.exists();
        let left = signal == Signal::SIGKILL || is_early || status.success() && stopped;
        table.note(what, whole.and(ensure(left, || format!("{status}: {}", run.said()))));
    }
}
