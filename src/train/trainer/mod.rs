//! The training loop that nobody has to write again.

mod callback;
mod history;

pub use callback::{Callback, Event, Run};
pub use history::{History, Record, Stopped};
