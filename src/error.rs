//! The one error type: what went wrong, where, and what to do next.
//!
//! Op errors travel inside tensors (see [`crate::Tensor`]) and surface when a value is read, saved or stepped on, so
//! the type is cheap to clone. Every variant's text ends with the next step a user can take.

use std::fmt;
use std::panic::Location;
use std::path::PathBuf;
use std::sync::Arc;

use crate::dtype::DType;
use crate::shape::Axis;

/// Result with Kiln's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong because of a user, a file or a driver.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Shapes that an op cannot combine.
    #[error("{op} at {at}: {what}; {next}")]
    Shape {
        /// Name of the op.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// The shapes and the rule they break.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// An axis that a tensor of this rank has not.
    #[error("{op} at {at}: axis {axis} is out of range for rank {rank}; axes count from 0, or back from -1")]
    Axis {
        /// Name of the op.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// The axis asked for.
        axis: isize,
        /// Rank of the tensor.
        rank: usize,
    },
    /// Element types that an op does not take or mix.
    #[error("{op} at {at}: {what}; convert with `cast`")]
    DType {
        /// Name of the op.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// The dtypes and the rule they break.
        what: String,
    },
    /// A value that an op or a function does not take (a label, a probability, a stride of zero).
    #[error("{op} at {at}: {what}; {next}")]
    Value {
        /// Name of the op or function.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// The value and the rule it breaks.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// Tensors of two devices in one op.
    #[error("{op} at {at}: tensors live on two devices ({left} and {right}); create both on one device")]
    Device {
        /// Name of the op.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// Name of the first device.
        left: String,
        /// Name of the second device.
        right: String,
    },
    /// Something larger than the adapter allows.
    #[error("{what}: {bytes} bytes, the limit of {device} is {limit}; {next}")]
    Limit {
        /// What is too large.
        what: String,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// Name of the device.
        device: String,
        /// What to do.
        next: &'static str,
    },
    /// GPU memory is used up, or would be (`KILN_MEMORY_LIMIT`).
    #[error(
        "out of GPU memory: {bytes} more bytes wanted for {what}, {used} in use, limit {limit}; \
         use a smaller batch, wrap parts of the model in nn::Recompute, drop tensors you hold, or raise KILN_MEMORY_LIMIT"
    )]
    OutOfMemory {
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        bytes: u64,
        /// Bytes in use by this process on the device.
        used: u64,
        /// The limit, `u64::MAX` when only the driver knows it.
        limit: u64,
    },
    /// The device went away (driver reset, unplugged, destroyed).
    #[error("device {device} was lost: {reason}; create a new Device, and load the last checkpoint")]
    DeviceLost {
        /// Name of the device.
        device: String,
        /// The driver's reason.
        reason: String,
    },
    /// No device fits what was asked for.
    #[error("no device matches `{wanted}`; there are: {available}; set KILN_DEVICE to one of these, `auto` or `cpu`")]
    NoDevice {
        /// The name or back end asked for.
        wanted: String,
        /// Names of what there is.
        available: String,
    },
    /// The driver or the shader compiler refused something Kiln asked for.
    #[error("{device} refused {what}: {message}; update the driver, or try another back end with KILN_DEVICE")]
    Driver {
        /// Name of the device.
        device: String,
        /// What was asked for.
        what: String,
        /// The driver's words.
        message: String,
    },
    /// A loss or gradient that is not finite. The step left no trace.
    #[error(
        "step {step} of {optimizer}: its loss or a gradient is NaN or infinite, its update was skipped{}{}; \
         lower the learning rate, clip gradients, or check the inputs of that step{}",
        others(*later), origin(found.as_deref()), advice(found.as_deref())
    )]
    NonFinite {
        /// The optimizer's number of the step (from 1), refused ones counted.
        step: u64,
        /// Which optimizer, and over which parameters.
        optimizer: String,
        /// Steps of the same parameters that have been refused since.
        later: u64,
        /// What was the first not to be finite; known in check mode.
        found: Option<String>,
    },
    /// The loss scale would have sunk below its floor: gradients are not finite whatever it is.
    #[error(
        "step {step} of {optimizer}: gradients are NaN or infinite even at a loss scale of {floor:e}, its floor{}{}; \
         lower the learning rate, check the inputs, or keep the op at fault in f32 by with_precision{}",
        others(*later), origin(found.as_deref()), advice(found.as_deref())
    )]
    LossScale {
        /// The optimizer's number of the step (from 1), refused ones counted.
        step: u64,
        /// Which optimizer, and over which parameters.
        optimizer: String,
        /// Steps of the same parameters that have been refused since.
        later: u64,
        /// The floor.
        floor: f64,
        /// What was the first not to be finite; known in check mode.
        found: Option<String>,
    },
    /// A file whose content is not what it should be.
    #[error("{}: at byte {offset}: {what}; {next}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Byte offset of the problem.
        offset: u64,
        /// What is wrong there.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A data set, or a list that belongs to it, is not what was asked for.
    #[error("{what}; {next}")]
    Data {
        /// What is wrong.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// An item of a data set could not be loaded.
    #[error("item {index}{}: {what}", name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
    Item {
        /// Its number in the data set.
        index: usize,
        /// What it is called: the path of its file.
        name: Option<String>,
        /// Why, and what to do.
        what: String,
    },
    /// The operating system refused to open, read, write or rename a file.
    #[error("{}: cannot {action}: {source}; {}", path.display(), io_advice(source, action))]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried ("read", "write", ..).
        action: &'static str,
        /// The operating system's error.
        source: Arc<std::io::Error>,
    },
    /// A checkpoint that does not fit the model or optimizer it is loaded into.
    #[error("{}: {what}; {next}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A model in a file is not what it should be, or what is passed to it does not fit.
    #[error("{what}; {next}")]
    Onnx {
        /// Where and what, node by node.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A model in a file asks for what Kiln has not.
    #[error("Kiln has not all that the model asks for: {what}; export it with other ops, or write the part in Kiln")]
    Unsupported {
        /// What is missing, with the names of the nodes.
        what: String,
    },
    /// A gradient or value was asked for whose inputs have been overwritten since.
    #[error("{op} at {at}: {what}; {next}")]
    History {
        /// Name of the op.
        op: &'static str,
        /// Source line of the call.
        at: &'static Location<'static>,
        /// What is gone.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A setting (environment variable, configuration) that cannot be used.
    #[error("{name}={value}: {what}; {next}")]
    Setting {
        /// Name of the setting.
        name: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A call that would wait, where nobody may: in a browser's tab.
    #[error("`{call}` would wait, which a browser does not allow; await `{instead}`")]
    WouldBlock {
        /// The call.
        call: &'static str,
        /// Its async form.
        instead: &'static str,
    },
    /// A callback of a training loop failed, or panicked.
    #[error("callback `{name}`: {source}")]
    Callback {
        /// Its name.
        name: String,
        /// What it met.
        source: Box<Error>,
    },
    /// What a rank of a distributed run met, or what kept the ranks from meeting.
    #[error("rank {rank}: {what}; {next}")]
    Rank {
        /// The rank whose it is.
        rank: usize,
        /// What it met.
        what: String,
        /// What to do.
        next: &'static str,
    },
    /// A bug in Kiln: a rule that its own checks found broken.
    #[error("internal error: {what}; please report it with the program that caused it")]
    Internal {
        /// The broken rule.
        what: String,
    },
}

/// What to do about a refusal of the operating system.
fn io_advice(error: &std::io::Error, action: &str) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound if action == "read" => "check the path; nothing is there",
        ErrorKind::NotFound => "make its folder first, or correct the path",
        ErrorKind::PermissionDenied => "see who owns it and its folder, and what they let you do",
        ErrorKind::StorageFull => "make room on that disk, or choose a path on another",
        ErrorKind::QuotaExceeded => "make room within your quota on that disk, or choose a path on another",
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f), or choose another file system",
        ErrorKind::AlreadyExists => "choose another path, or remove what has that name",
        ErrorKind::IsADirectory => "name a file, not a folder",
        ErrorKind::NotADirectory => "correct the path: a part of it is a file, not a folder",
        ErrorKind::ReadOnlyFilesystem => "choose a path on a disk that is not mounted read-only",
        ErrorKind::ResourceBusy | ErrorKind::ExecutableFileBusy | ErrorKind::WouldBlock => {
            "another program holds it: wait until it is done, or choose another path"
        }
        ErrorKind::Interrupted => "try again: a signal came in between",
        ErrorKind::TimedOut | ErrorKind::StaleNetworkFileHandle | ErrorKind::HostUnreachable => {
            "see that the network file system is there, and try again"
        }
        ErrorKind::CrossesDevices => "choose a path whose file and folder are on one file system",
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => "correct the path: it cannot be the name of a file",
        ErrorKind::OutOfMemory => "end other programs, or use a machine with more memory",
        ErrorKind::Unsupported => "use the form of the call that takes or gives bytes, if there are no files here",
        ErrorKind::UnexpectedEof => "take another copy of the file: it ends too early",
        ErrorKind::InvalidData => "take another copy of the file: its content is damaged",
        _ => match error.raw_os_error() {
            // ENFILE and EMFILE; ELOOP; EIO.
            Some(23 | 24) if cfg!(unix) => "close files, or raise the limit on open ones (ulimit -n)",
            Some(40) if cfg!(target_os = "linux") => "correct the path: its links lead in a circle",
            Some(5) if cfg!(unix) => {
                "the disk fails, or is gone: see the system's log, and save what you can elsewhere"
            }
            _ => "see what the system says of this path, and try another",
        },
    }
}

fn others(later: u64) -> String {
    match later {
        0 => String::new(),
        1 => " (and so was that of a later step)".into(),
        _ => format!(" (and so were those of {later} later steps)"),
    }
}

fn origin(found: Option<&str>) -> String {
    found.map(|found| format!(" ({found})")).unwrap_or_default()
}

fn advice(found: Option<&str>) -> &'static str {
    if found.is_some() { "" } else { " (KILN_CHECK=1 names the first op that is not finite)" }
}

impl Error {
    /// An [`Error::Io`] for `path`.
    pub(crate) fn io(path: impl Into<PathBuf>, action: &'static str, source: std::io::Error) -> Self {
        Error::Io { path: path.into(), action, source: Arc::new(source) }
    }

    /// With what check mode found to be the first value that is not finite.
    pub(crate) fn at_first(mut self, what: Option<String>) -> Self {
        if let Error::NonFinite { found, .. } | Error::LossScale { found, .. } = &mut self {
            *found = what;
        }
        self
    }

    /// Counts one more refused step behind this one.
    pub(crate) fn and_another(&mut self) {
        if let Error::NonFinite { later, .. } | Error::LossScale { later, .. } = self {
            *later += 1;
        }
    }

    /// The same, said to have come up in a layer.
    pub(crate) fn within(mut self, layer: &str) -> Error {
        if let Error::Shape { what, .. } | Error::DType { what, .. } | Error::Value { what, .. } = &mut self {
            *what = format!("in {layer}: {what}");
        }
        self
    }

    /// An [`Error::Internal`].
    /// A rank that has not sent its message for so long.
    pub(crate) fn no_answer(rank: usize, longest: std::time::Duration) -> Self {
        let what = format!("it has not answered for {} s", longest.as_secs_f32());
        Error::Rank {
            rank,
            what,
            next: "see whether it still runs and the network is up, or wait longer (`Start::longest`)",
        }
    }

    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Error::Internal { what: what.into() }
    }
}

/// The message: what `fn main() -> kiln::Result<()>` and `unwrap` print.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A broken rule of an op; recording adds the op's name and the source line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Shapes do not fit: what is wrong, what to do.
    Shape(String, &'static str),
    /// This axis is out of range for this rank.
    Axis(usize, usize),
    /// Dtypes do not fit.
    DType(String),
    /// A value is out of range: what is wrong, what to do.
    Value(String, &'static str),
}

impl Problem {
    /// What is wrong with a number that a dtype does not hold.
    pub(crate) fn number(dtype: DType, number: f64) -> Problem {
        let holds = match dtype {
            DType::I32 => "whole numbers from -2147483648 to 2147483647",
            DType::U32 => "whole numbers from 0 to 4294967295",
            _ => "0 and 1",
        };
        Problem::DType(format!("{number} beside a tensor of {dtype}, which holds {holds}"))
    }

    pub(crate) fn at(self, op: &'static str, at: &'static Location<'static>) -> Error {
        match self {
            Problem::Shape(what, next) => Error::Shape { op, at, what, next },
            Problem::Axis(axis, rank) => Error::Axis { op, at, axis: Axis::said(axis, rank), rank },
            Problem::DType(what) => Error::DType { op, at, what },
            Problem::Value(what, next) => Error::Value { op, at, what, next },
        }
    }
}
