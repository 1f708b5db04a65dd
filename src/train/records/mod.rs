//! What remains of a run: event files for TensorBoard, tables, and a report on one page.
//!
//! | writer | what | for |
//! | --- | --- | --- |
//! | [`TensorBoard`] | scalars, histograms, images, texts, hyper-parameters | watching a run, in TensorBoard |
//! | [`CsvLog`] | a row an epoch | spreadsheets |
//! | [`JsonLines`] | an object a line | programs; [`Comparison`] |
//! | [`Report`] | one HTML page with everything in it | readers; sending it to somebody |
//! | [`Comparison`] | the same of several runs | choosing between them |
//! | [`Settings`] | settings, seed, versions, adapter, command line | repeating the run |
//!
//! Each is used by hand, from a loop of one's own, or given to a trainer as a [`Callback`](super::Callback). They go well
//! into one folder a run: `settings.json`, `log.jsonl`, `log.csv`, `report.html` and TensorBoard's files.
//!
//! ```
//! use kiln::prelude::*;
//! use kiln::train::Record;
//! use kiln::train::records::{CsvLog, JsonLines, Report, Settings, TensorBoard};
//!
//! # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-records", std::process::id()));
//! let device = Device::cpu();
//! let settings = Settings::new(&device).with("seed", 42).with("lr", 3e-3);
//! settings.write(&folder)?;
//! let (mut board, mut table) = (TensorBoard::new(&folder), CsvLog::new(folder.join("log.csv")));
//! let mut lines = JsonLines::new(folder.join("log.jsonl"));
//! let report = Report::new("A run", folder.join("report.html"));
//! report.settings(&settings);
//! for epoch in 0..2 {
//!     let loss = 1.0 / (epoch + 1) as f64; // train here
//!     board.scalar("epoch/loss", epoch, loss)?;
//!     let record = Record { epoch, step: 10 * (epoch + 1), values: [("loss".into(), loss)].into(), seconds: 0.1 };
//!     table.write(&record)?;
//!     lines.write("epoch", &record)?;
//!     report.record(&record);
//!     report.write()?;
//! }
//! # std::fs::remove_dir_all(&folder).unwrap();
//! # Ok::<(), Error>(())
//! ```
//!
//! **Full disks.** What cannot be written whole is taken back, and the writer says so by an error; a later call tries
//! again. A trainer makes one warning of it and goes on.
//!
//! **Resumed runs.** A trainer that goes on from a checkpoint takes back what was logged after it: rows and lines of later
//! steps go, and TensorBoard leaves out what it has of them.

mod callbacks;
mod picture;
mod report;
mod settings;
mod sink;
mod table;
mod tensorboard;
mod wire;

pub use picture::Picture;
pub use report::{Comparison, Report, Sample};
pub use settings::Settings;
pub use table::{CsvLog, JsonLines};
pub use tensorboard::TensorBoard;
