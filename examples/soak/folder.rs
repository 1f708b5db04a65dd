//! Runs of `image_folder` in a folder of their own that are killed and started again until they are done.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln::train::checkpoint::Checkpoint;
use nix::sys::signal::Signal;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::program::{Soak, Table, ensure};

/// What a run has left, but for times: what each checkpoint says, every bit of it, and the tables.
type Left = BTreeMap<String, Vec<u8>>;

pub fn kills(soak: &mut Soak, table: &mut Table, kills: u64) -> Result<()> {
    let data = soak.fresh()?.join("digits");
    let made = soak.bare().arg("--make").arg(&data).output()?;
    if !made.status.success() {
        bail!("image_folder does not make its images: {}", String::from_utf8_lossy(&made.stderr));
    }
    thin(&data)?;
    let command = |soak: &Soak, folder: &Path| -> Command {
        let mut command = soak.bare();
        command.arg("--data-dir").arg(&data).args(["--epochs", "4", "--batch-size", "16", "--run-dir"]);
        command.arg(folder).env("RUST_BACKTRACE", "0");
        command
    };
    // Twice, for the first one compiles its kernels.
    let mut undisturbed = || -> Result<(Duration, Left)> {
        let folder = soak.fresh()?;
        let started = Instant::now();
        let mut run = soak.start(command(soak, &folder), &folder.join("log-0"))?;
        if !run.wait()?.success() {
            bail!("a run that nobody disturbs fails: {}", run.said());
        }
        Ok((started.elapsed(), left(&folder)?))
    };
    let ((_, first), (time, whole)) = (undisturbed()?, undisturbed()?);
    table.note("two undisturbed runs leave the same", ensure(first == whole, || "they differ".into()));
    println!("soak: undisturbed: {:.1} s, {} parts to compare", time.as_secs_f64(), whole.len());
    let mut killed = 0;
    while killed < kills {
        let folder = soak.fresh()?;
        for times in 0.. {
            let mut run = soak.start(command(soak, &folder), &folder.join(format!("log-{times}")))?;
            let pause = time.mul_f64(0.2 + 0.8 * soak.chance());
            let at = Instant::now() + pause;
            while !run.has_ended()? && (Instant::now() < at || killed >= kills) {
                std::thread::sleep(Duration::from_millis(3));
            }
            if !run.has_ended()? {
                run.signal(Signal::SIGKILL);
                run.wait()?;
                killed += 1;
                continue;
            }
            let status = run.wait()?;
            let said = || format!("after {times} kills: {status}; {}", run.said());
            table.note("runs that end", ensure(status.success(), said));
            let found = left(&folder)?;
            for part in whole.keys().chain(found.keys().filter(|part| !whole.contains_key(*part))) {
                let same = whole.get(part) == found.get(part);
                table.note(part, ensure(same, || format!("after {times} kills it differs, in {}", folder.display())));
            }
            println!("soak: a run ended after {times} kills, {killed} of {kills} in all");
            break;
        }
    }
    Ok(())
}

/// Leaves one image in six, so that a run takes seconds.
fn thin(data: &Path) -> Result<()> {
    for class in fs::read_dir(data)? {
        let mut files = fs::read_dir(class?.path())?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
        files.sort();
        for (number, file) in files.iter().enumerate() {
            if number % 6 > 0 {
                fs::remove_file(file)?;
            }
        }
    }
    Ok(())
}

fn left(folder: &Path) -> Result<Left> {
    let mut left = Left::new();
    for name in ["last", "best"] {
        let path = folder.join(format!("checkpoints/{name}.safetensors"));
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let tensors = SafeTensors::deserialize(&bytes)?;
        // In the order of their names; that of the file differs from one to the other.
        let mut named = tensors.tensors();
        named.sort_by(|one, other| one.0.cmp(&other.0));
        let bits = named.into_iter().flat_map(|(name, view)| [name.as_bytes(), view.data()].concat()).collect();
        left.insert(format!("bits of the {name} checkpoint"), bits);
        let mut said = Checkpoint::open(&path)?.value("trainer").cloned().unwrap_or(Value::Null);
        without_times(&mut said);
        left.insert(format!("history in the {name} checkpoint"), said.to_string().into_bytes());
    }
    // Seconds are the third column.
    let rows = fs::read_to_string(folder.join("log.csv"))?;
    let row = |row: &str| -> String {
        row.split(',').enumerate().filter(|(column, _)| *column != 2).map(|(_, cell)| format!("{cell},")).collect()
    };
    left.insert("rows of the table".into(), rows.lines().map(row).collect::<Vec<_>>().join("\n").into_bytes());
    let mut lines = vec![];
    for line in fs::read_to_string(folder.join("log.jsonl"))?.lines() {
        let mut line: Value = serde_json::from_str(line)?;
        without_times(&mut line);
        lines.push(line.to_string());
    }
    left.insert("lines of the log".into(), lines.join("\n").into_bytes());
    Ok(left)
}

/// Leaves out all seconds, which no two runs share.
fn without_times(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.remove("seconds");
            entries.values_mut().for_each(without_times);
        }
        Value::Array(values) => values.iter_mut().for_each(without_times),
        _ => {}
    }
}
