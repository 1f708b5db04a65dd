//! Two processes that save to one path, and a third that reads it all the while.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use safetensors::SafeTensors;

use crate::program::{KINDS, Run, Soak, Table, ensure};

pub fn two_processes(soak: &mut Soak, table: &mut Table, until: Instant) -> Result<()> {
    let folder = soak.fresh()?;
    let checkpoint = folder.join("run.safetensors");
    let kinds = [KINDS[0], KINDS[1]];
    for kind in kinds {
        soak.whole(kind)?;
    }
    let outs = ["a", "b"].map(|name| folder.join(name));
    let start = |soak: &Soak, i: usize| -> Result<Run> {
        let mut command = soak.command(kinds[i], &outs[i], &["--checkpoint-every", "1", "--checkpoint"]);
        command.arg(&checkpoint);
        soak.start(command, &folder.join(format!("log{i}")))
    };
    let mut runs = [start(soak, 0)?, start(soak, 1)?];
    let mut kill_at = Instant::now() + Duration::from_secs(3);
    let mut is_there = false;
    loop {
        match fs::read(&checkpoint) {
            Ok(bytes) => {
                is_there = true;
                let sound = SafeTensors::deserialize(&bytes).map_err(|error| format!("a torn file: {error}"));
                table.note("reads of a path that two processes save to", sound.map(drop));
            }
            Err(error) => {
                if is_there {
                    table.note("reads of a path that two processes save to", Err(format!("it was gone: {error}")));
                }
            }
        }
        std::thread::sleep(Duration::from_millis(1));
        let over = Instant::now() >= until;
        for i in 0..2 {
            if runs[i].has_ended()? {
                let status = runs[i].wait()?;
                let same = soak.are_whole(kinds[i], &outs[i])?;
                let what = "runs beside another on the same path that end in their own bits";
                table.note(
                    what,
                    ensure(status.success() && same, || {
                        format!("{}: {status}, same bits: {same}; {}", kinds[i], runs[i].said())
                    }),
                );
                if over {
                    return Ok(());
                }
                let _ = fs::remove_file(&outs[i]);
                runs[i] = start(soak, i)?;
            }
        }
        // One that dies in the middle of a save leaves the path to the other.
        if Instant::now() >= kill_at && !over {
            let i = usize::from(soak.chance() < 0.5);
            runs[i].signal(Signal::SIGKILL);
            runs[i].wait()?;
            table.note("processes killed beside another on the same path", Ok(()));
            runs[i] = start(soak, i)?;
            kill_at = Instant::now() + Duration::from_secs_f64(2.0 + 6.0 * soak.chance());
        }
    }
}
