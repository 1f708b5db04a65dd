//! Event files for TensorBoard.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::picture::Picture;
use super::sink::Sink;
use super::wire::Message;
use crate::clock::{SystemTime, UNIX_EPOCH};
use crate::error::Result;

/// Buckets of a histogram.
const BUCKETS: usize = 30;

/// A writer of event files: `tensorboard --logdir FOLDER` shows them while a run goes on.
///
/// ```
/// use kiln::train::records::TensorBoard;
///
/// # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-tensorboard", std::process::id()));
/// let mut board = TensorBoard::new(&folder);
/// for step in 0..3 {
///     board.scalar("train/loss", step, 1.0 / (step + 1) as f64)?;
/// }
/// board.histogram("weights", 2, &[0.1, 0.2, -0.4])?;
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// It is a [`Callback`](crate::train::Callback) too: `train/NAME` are the means that a trainer logs between epochs,
/// `epoch/NAME` those of an epoch and `validation/NAME` those of a validation. A run that is resumed writes another file
/// into the same folder, which takes back what was logged after the step from which it goes on.
///
/// The file is made with the first event; every event is in it, whole, when a call returns.
#[derive(Debug)]
pub struct TensorBoard {
    folder: PathBuf,
    sink: Option<Sink>,
    pub(super) hparams: Vec<(String, Value)>,
}

impl TensorBoard {
    /// A writer into this folder, which is made if it is not there.
    pub fn new(folder: impl AsRef<Path>) -> TensorBoard {
        TensorBoard { folder: folder.as_ref().into(), sink: None, hparams: vec![] }
    }

    /// Where it writes.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A number at a step. It is stored as f32, as TensorBoard has it; NaN and infinities too.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), as all methods here; nothing is written then, and a later call tries again.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f64) -> Result<()> {
        self.value(step, Message::new().bytes(1, tag).float(2, value as f32))
    }

    /// How values are spread: counts in 30 buckets of one width from the least to the largest. Values that are not finite are left
    /// out.
    ///
    /// # Errors
    /// As [`TensorBoard::scalar`].
    pub fn histogram(&mut self, tag: &str, step: u64, values: &[f64]) -> Result<()> {
        let values: Vec<f64> = values.iter().copied().filter(|x| x.is_finite()).collect();
        let first = values.first().copied().unwrap_or(0.0);
        let (low, high) = values.iter().fold((first, first), |(low, high), &x| (low.min(x), high.max(x)));
        let width = (high - low) / BUCKETS as f64;
        let count = if width > 0.0 { BUCKETS } else { 1 };
        let mut counts = vec![0.0; count];
        for value in &values {
            let bucket = if width > 0.0 { ((value - low) / width) as usize } else { 0 };
            counts[bucket.min(count - 1)] += 1.0;
        }
        // The last ends where the values do, whatever was rounded.
        let limits: Vec<f64> = (1..=count).map(|i| if i == count { high } else { low + i as f64 * width }).collect();
        let histogram = Message::new()
            .double(1, low)
            .double(2, high)
            .double(3, values.len() as f64)
            .double(4, values.iter().sum())
            .double(5, values.iter().map(|x| x * x).sum())
            .doubles(6, &limits)
            .doubles(7, &counts);
        self.value(step, Message::new().bytes(1, tag).message(5, histogram))
    }

    /// An image.
    ///
    /// # Errors
    /// As [`TensorBoard::scalar`].
    pub fn image(&mut self, tag: &str, step: u64, picture: &Picture) -> Result<()> {
        let [width, height] = picture.size().map(|size| size as u64);
        let encoded =
            Message::new().int(1, height).int(2, width).int(3, picture.channels() as u64).bytes(4, picture.png());
        self.value(step, Message::new().bytes(1, tag).message(4, encoded))
    }

    /// A text, which TensorBoard shows as Markdown.
    ///
    /// # Errors
    /// As [`TensorBoard::scalar`].
    pub fn text(&mut self, tag: &str, step: u64, text: &str) -> Result<()> {
        const STRING: u64 = 7;
        let shape = Message::new().message(2, Message::new().int(1, 1));
        let tensor = Message::new().int(1, STRING).message(2, shape).bytes(8, text);
        self.value(step, Message::new().bytes(1, tag).message(8, tensor).message(9, plugin("text", None)))
    }

    /// The run's settings, and the tags of the scalars that runs are compared by, for the view of hyper-parameters. Numbers,
    /// booleans and texts are shown as such, anything else as JSON.
    ///
    /// # Errors
    /// As [`TensorBoard::scalar`].
    pub fn hyperparameters<'a>(
        &mut self,
        settings: impl IntoIterator<Item = (&'a String, &'a Value)>,
        metrics: &[&str],
    ) -> Result<()> {
        let (mut experiment, mut session) = (Message::new(), Message::new());
        for (name, value) in settings {
            // What kind it is, and the value as google.protobuf.Value has it.
            let (kind, value) = match value {
                Value::Bool(value) => (2, Message::new().int(4, u64::from(*value))),
                Value::Number(number) => (3, Message::new().double(2, number.as_f64().unwrap_or(f64::NAN))),
                Value::String(text) => (1, Message::new().bytes(3, text)),
                other => (1, Message::new().bytes(3, other.to_string())),
            };
            experiment = experiment.message(4, Message::new().bytes(1, name).int(4, kind));
            session = session.message(1, Message::new().bytes(1, name).message(2, value));
        }
        for metric in metrics {
            let name = Message::new().bytes(2, metric);
            experiment = experiment.message(5, Message::new().message(1, name));
        }
        for (tag, field, content) in
            [("_hparams_/experiment", 2, experiment), ("_hparams_/session_start_info", 3, session)]
        {
            self.session(tag, field, content)?;
        }
        Ok(())
    }

    /// Says that the run is over, for the view of hyper-parameters.
    pub(super) fn end(&mut self, succeeded: bool) -> Result<()> {
        let end = Message::new().int(1, if succeeded { 1 } else { 2 });
        self.session("_hparams_/session_end_info", 4, end)
    }

    /// Takes back all that earlier files of the folder have from this step on.
    ///
    /// # Errors
    /// As [`TensorBoard::scalar`].
    pub fn resume_at(&mut self, step: u64) -> Result<()> {
        const START: u64 = 1;
        self.event(step, |event| event.message(7, Message::new().int(1, START)))
    }

    /// What the view of hyper-parameters knows of a run.
    fn session(&mut self, tag: &str, field: u32, content: Message) -> Result<()> {
        let content = Message::new().message(field, content);
        self.value(0, Message::new().bytes(1, tag).message(9, plugin("hparams", Some(content))))
    }

    fn value(&mut self, step: u64, value: Message) -> Result<()> {
        let summary = Message::new().message(1, value);
        self.event(step, |event| event.message(5, summary))
    }

    fn event(&mut self, step: u64, what: impl FnOnce(Message) -> Message) -> Result<()> {
        // What is 0 is left out, as all writers of protocol buffers do.
        let event = |step: u64| {
            let event = Message::new().double(1, now().as_secs_f64());
            if step == 0 { event } else { event.int(2, step) }
        };
        let sink = match &mut self.sink {
            Some(sink) => sink,
            none => none.insert(Sink::new(self.folder.join(file_name()))),
        };
        if sink.is_empty()? {
            sink.append(&event(0).bytes(3, "brain.Event:2").record())?;
        }
        sink.append(&what(event(step)).record())
    }
}

/// What says which of TensorBoard's plugins shows a value.
fn plugin(name: &str, content: Option<Message>) -> Message {
    let plugin = Message::new().bytes(1, name);
    Message::new().message(1, content.map_or(plugin.clone(), |content| plugin.message(2, content)))
}

/// A name that no other file has, and that sorts by time: that is the order in which TensorBoard reads the files of a folder.
fn file_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let time = now();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "events.out.tfevents.{:010}.{:09}.kiln.{}.{number}",
        time.as_secs(),
        time.subsec_nanos(),
        std::process::id()
    )
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
