//! The training loop that nobody has to write again.

mod bar;
mod batches;
mod callback;
mod callbacks;
mod early_stopping;
mod find_lr;
mod fit;
mod held;
mod history;
mod options;
mod progress;
mod ranks;
mod reduced;
mod saves;
mod saving;
mod settings;
#[cfg(feature = "signals")]
mod signals;
mod step;
mod sums;
mod telling;
mod thread;
mod validate;
mod watched;

pub use batches::{Batches, Rounds, Validation};
pub use callback::{Callback, Event, Run};
pub use callbacks::{Freeze, ReduceOnPlateau};
pub use early_stopping::EarlyStopping;
pub use find_lr::{LrCurve, LrRange};
pub use history::{History, Record, Stopped};
pub use options::{Every, NotFinite};
pub use progress::Progress;
pub use saves::Saves;
pub use settings::Trainer;
#[cfg(feature = "signals")]
pub use signals::stop_on_signals;
pub use step::Step;
