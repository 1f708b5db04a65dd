//! Ctrl-C, and what a system sends to end a program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};

/// Set once the program is asked to end; asked again, it ends at once.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let catch = || {
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
    };
    keeping_nohup(catch).context("Ctrl-C could not be caught")?;
    Ok(stop)
}

/// Runs `catch`, which catches SIGHUP too; where that was ignored, as under nohup, it stays so.
#[cfg(unix)]
fn keeping_nohup<T>(catch: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no function of this program handles the signal; it is ignored, or what it was.
    let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    let result = catch();
    if matches!(before, Ok(SigHandler::SigIgn)) {
        // SAFETY: as above. Where it fails, the signal stops the run, which is saved then.
        let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    }
    result
}

#[cfg(not(unix))]
fn keeping_nohup<T>(catch: impl FnOnce() -> T) -> T {
    catch()
}
