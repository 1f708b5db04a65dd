//! Ctrl-C, and what a system sends to end a program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A flag for [`Trainer::stop_flag`](super::Trainer::stop_flag) that is set once the program is asked to end: by Ctrl-C
/// (SIGINT), SIGTERM or SIGHUP. Asked again, the program ends at once, with status 130. Needs the feature `signals`.
///
/// It installs the handlers, for the whole program, which nothing else here does. A SIGHUP that is ignored, as under
/// `nohup`, stays ignored.
///
/// # Errors
/// [`Error::Io`] if the handlers cannot be installed: another part of the program has done it.
pub fn stop_on_signals() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let install = || {
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
        })
    };
    keeping_nohup(install).map_err(|error| {
        let source = match error {
            ctrlc::Error::System(source) => source,
            other => std::io::Error::other(other.to_string()),
        };
        Error::io("signals", "handle", source)
    })?;
    Ok(stop)
}

/// Runs `install`, which handles SIGHUP too; where that was ignored, as under nohup, it stays so.
#[cfg(unix)]
fn keeping_nohup<T>(install: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no function of this program becomes a handler; the signal is ignored, or what it was.
    let before = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    let result = install();
    if matches!(before, Ok(SigHandler::SigIgn)) {
        // SAFETY: as above. Where it fails, the signal stops the run, which is saved then.
        let _ = unsafe { signal(Signal::SIGHUP, SigHandler::SigIgn) };
    }
    result
}

#[cfg(not(unix))]
fn keeping_nohup<T>(install: impl FnOnce() -> T) -> T {
    install()
}
