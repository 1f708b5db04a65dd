//! Disks that are full, and memory that is not there.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use safetensors::SafeTensors;

use crate::program::{KINDS, Soak, Table, ensure};

/// A disk of its own in memory, where this user may mount one.
struct Disk(PathBuf);

impl Disk {
    fn new(folder: &Path, bytes: u64) -> Option<Disk> {
        let options = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Disk(folder.into()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

pub fn full_disk(soak: &mut Soak, table: &mut Table) -> Result<()> {
    let kind = KINDS[3];
    let folder = soak.fresh()?;
    let disk = soak.fresh()?;
    match Disk::new(&disk, 1 << 20) {
        Some(_disk) => {
            let ballast = disk.join("ballast");
            let fill = || {
                // Until there is not a byte more: an error is what it is after.
                let file = fs::File::options().create(true).append(true).open(&ballast);
                let _ = file.and_then(|mut file| file.write_all(&vec![1; 1 << 20]));
            };
            trial(
                soak,
                table,
                kind,
                &folder,
                &disk.join("run"),
                "a full disk",
                "make room on that disk",
                Some(&fill),
                |c| c,
            )?;
            fs::remove_file(&ballast)?;
            goes_on(soak, table, kind, &folder, &disk.join("run"))?;
        }
        None => println!("soak: no disk of its own may be mounted here; a limit on the size of files has to do"),
    }
    let folder = soak.fresh()?;
    let limited = |command: Command| {
        // Between the size of the weights and that of a checkpoint, in units of 512 bytes.
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$@\"", "sh"]);
        shell.arg(command.get_program()).args(command.get_args()).env("RUST_BACKTRACE", "0");
        shell
    };
    let what = "a limit on the size of files";
    trial(
        soak,
        table,
        kind,
        &folder,
        &folder.join("run"),
        what,
        "raise the limit on the size of files",
        None,
        limited,
    )?;
    goes_on(soak, table, kind, &folder, &folder.join("run"))?;
    let mut command = soak.command(kind, &folder.join("out"), &["--json", "/dev/full"]);
    command.env("RUST_BACKTRACE", "0");
    let mut run = soak.start(command, &folder.join("log-json"))?;
    let status = run.wait()?;
    let told = run.said().contains("/dev/full") && run.said().contains("No space left");
    let same = soak.are_whole(kind, &folder.join("out"))?;
    table.note(
        "a report to a full disk: an error, and the weights are there",
        ensure(!status.success() && told && same, || format!("{status}, same bits: {same}; {}", run.said())),
    );
    Ok(())
}

/// A run has saved when its disk fills up: it goes on, says what is wrong, and leaves the old checkpoint as it was.
#[allow(clippy::too_many_arguments)]
fn trial(
    soak: &mut Soak,
    table: &mut Table,
    kind: &str,
    folder: &Path,
    checkpoint: &Path,
    what: &str,
    advice: &str,
    fill: Option<&dyn Fn()>,
    around: impl Fn(Command) -> Command,
) -> Result<()> {
    let [out, log] = ["out", "log"].map(|name| folder.join(name));
    let mut command = soak.command(kind, &folder.join("first"), &["--max-steps", "31", "--checkpoint"]);
    command.arg(checkpoint);
    let mut run = soak.start(command, &log)?;
    if !run.wait()?.success() {
        bail!("a run that nobody disturbs fails: {}", run.said());
    }
    let mut before = fs::read(checkpoint).context("no checkpoint")?;
    let mut command = soak.command(kind, &out, &["--checkpoint-every", "9", "--checkpoint"]);
    command.arg(checkpoint).arg("--resume").arg(checkpoint);
    let mut run = soak.start(around(command), &log)?;
    if let Some(fill) = fill {
        // Once the model is there, and again for what each save that still succeeds gives back.
        while !run.has_ended()? && !run.said().contains("no checkpoint after") {
            if run.said().matches("model  ").count() > 1 {
                fill();
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        before = fs::read(checkpoint).context("no checkpoint")?;
    }
    let status = run.wait()?;
    let said = run.said();
    let survived = fs::read(checkpoint).is_ok_and(|after| after == before);
    table.note(&format!("{what}: the old checkpoint survives"), ensure(survived, || said.clone()));
    let clear = !status.success() && said.contains(advice) && said.contains("checkpoint");
    table.note(&format!("{what}: the error says what to do"), ensure(clear, || said.clone()));
    let same = soak.are_whole(kind, &out)?;
    table.note(&format!("{what}: training goes on to the same bits"), ensure(same, || said));
    Ok(())
}

/// Once there is room again, the old checkpoint leads to the same bits.
fn goes_on(soak: &mut Soak, table: &mut Table, kind: &str, folder: &Path, checkpoint: &Path) -> Result<()> {
    let out = folder.join("after");
    let mut command = soak.command(kind, &out, &["--checkpoint"]);
    command.arg(checkpoint).arg("--resume").arg(checkpoint);
    let mut run = soak.start(command, &folder.join("log-after"))?;
    let status = run.wait()?;
    let same = soak.are_whole(kind, &out)?;
    let sound = fs::read(checkpoint).is_ok_and(|bytes| SafeTensors::deserialize(&bytes).is_ok());
    table.note(
        "room again: the run goes on to the same bits",
        ensure(status.success() && same && sound, || format!("{status}, same bits: {same}; {}", run.said())),
    );
    Ok(())
}

/// A limit that is halved until training is refused, then limits around the last that sufficed.
pub fn memory(soak: &mut Soak, table: &mut Table, until: Instant) -> Result<()> {
    let mut limit = 256u64 << 20;
    let (mut fits, mut refused) = (u64::MAX, 0);
    for turn in 0.. {
        let kind = KINDS[turn % KINDS.len()];
        let folder = soak.fresh()?;
        let out = folder.join("out");
        let mut command = soak.command(kind, &out, &[]);
        command.env("KILN_MEMORY_LIMIT", limit.to_string());
        let mut run = soak.start(command, &folder.join("log"))?;
        let status = run.wait()?;
        if status.success() {
            fits = fits.min(limit);
            let same = soak.are_whole(kind, &out)?;
            let why = || format!("{limit} bytes ({kind}): other bits");
            table.note("memory limits under which training ends in the same bits", ensure(same, why));
        } else {
            refused = refused.max(limit);
            let clear = run.said().contains("out of GPU memory") && run.said().contains(&limit.to_string());
            table.note("memory limits that are refused as such", ensure(clear, || format!("{limit}: {}", run.said())));
        }
        limit = match refused {
            0 => limit / 2,
            _ if Instant::now() >= until => return Ok(()),
            // What is too little for one kind may do for another.
            _ => {
                (refused as f64 * 0.7 + (fits.max(refused) as f64 * 1.2 - refused as f64 * 0.7) * soak.chance()) as u64
            }
        };
    }
    Ok(())
}
