//! What happens once nobody reads what a program prints.

/// Lets a reader that leaves (`| head`) end the program without a word, as it does with programs in C; Rust's `println!` would
/// panic instead.
#[cfg(unix)]
pub fn end_with_reader() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: no function of the program handles the signal; what it does is what the system does by default. It cannot be
    // refused for a signal that may be caught.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

#[cfg(not(unix))]
pub fn end_with_reader() {}
