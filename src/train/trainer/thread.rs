//! Work that waits, on a thread of its own.

use crate::error::{Error, Result};

/// What `work` gives. It runs on a thread, and the caller's is free meanwhile. Browsers have none: there it runs at once.
pub(super) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if cfg!(target_arch = "wasm32") {
        return Ok(work());
    }
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    let thread = std::thread::Builder::new().name("kiln trainer".into()).spawn(move || {
        // The receiver may be gone: then nobody wants it.
        let _ = sender.send(work());
    });
    thread.map_err(|error| Error::io("a thread", "start", error))?;
    receiver.receive().await.ok_or_else(|| Error::internal("a thread of the trainer ended without a result"))
}
