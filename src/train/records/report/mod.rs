//! One page that tells all of a run.

mod compare;
mod curves;
mod page;
mod sections;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::picture::Picture;
use super::settings::Settings;
use crate::error::Result;
use crate::file;
use crate::plot::escaped;
use crate::plot::page::number;
use crate::profile::Profile;
use crate::train::Record;
use crate::train::metrics::{ConfusionMatrix, Figure, Figures};

pub use compare::Comparison;

/// A report of a run: one HTML file with everything in it, for a browser of today, on a screen or a phone, light or dark.
/// No script, and nothing is loaded from elsewhere.
///
/// It shows what it is given: settings and adapter, curves of the epochs' figures, confusion matrices with the figures of
/// each class, samples with their predictions, the profile of kernels.
///
/// ```
/// use kiln::Device;
/// use kiln::train::Record;
/// use kiln::train::metrics::ConfusionMatrix;
/// use kiln::train::records::{Report, Settings};
///
/// # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-report", std::process::id()));
/// let report = Report::new("Digits", folder.join("report.html"));
/// report.settings(&Settings::new(&Device::cpu()).with("lr", 3e-3));
/// for epoch in 0..3 {
///     let values = [("loss".to_string(), 1.0 / (epoch + 1) as f64)].into();
///     report.record(&Record { epoch, step: 23 * (epoch + 1), values, seconds: epoch as f64 });
/// }
/// let mut matrix = ConfusionMatrix::new(2)?;
/// matrix.record_all(&[0, 0, 1], &[0, 1, 1])?;
/// report.matrix("Test", &matrix);
/// report.write()?;
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// It is a [`Callback`](crate::train::Callback) too, and writes the page after every epoch. Cloning copies the handle: a
/// program that gives a trainer a clone adds matrix, samples and profile afterwards, and writes once more.
#[derive(Debug, Clone)]
pub struct Report {
    path: Arc<PathBuf>,
    content: Arc<Mutex<Content>>,
}

#[derive(Debug, Default)]
struct Content {
    title: String,
    /// How the run stands, in a sentence.
    status: String,
    settings: Option<Settings>,
    records: Vec<Record>,
    notes: Vec<String>,
    matrices: Vec<(String, ConfusionMatrix)>,
    by_class: Vec<(String, Vec<Figure>)>,
    samples: Vec<Sample>,
    profile: Option<Profile>,
}

/// An item with what the model made of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The item as a picture, if it is one.
    pub picture: Option<Picture>,
    /// The item in words: what is shown where there is no picture, and read out where there is one.
    pub input: String,
    /// What is right.
    pub target: String,
    /// What was predicted.
    pub prediction: String,
    /// The probability that the model gives its prediction.
    pub confidence: Option<f64>,
}

impl Report {
    /// A report that [`Report::write`] puts at this path; the folder is made if it is not there.
    pub fn new(title: impl Into<String>, path: impl Into<PathBuf>) -> Report {
        let content = Content { title: title.into(), ..Content::default() };
        Report { path: Arc::new(path.into()), content: Arc::new(Mutex::new(content)) }
    }

    /// Where it is written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sets the settings of the run.
    pub fn settings(&self, settings: &Settings) {
        self.content().settings = Some(settings.clone());
    }

    /// Adds the figures of an epoch: a point of each curve. Names that begin with `val_` share a chart with those of
    /// training.
    pub fn record(&self, record: &Record) {
        self.content().records.push(record.clone());
    }

    /// Sets the figures of all epochs so far.
    pub fn records(&self, records: &[Record]) {
        self.content().records = records.to_vec();
    }

    /// Adds a remark, shown near the top.
    pub fn note(&self, text: impl Into<String>) {
        self.content().notes.push(text.into());
    }

    /// Sets the confusion matrix of this title.
    pub fn matrix(&self, title: impl Into<String>, matrix: &ConfusionMatrix) {
        let (title, matrices) = (title.into(), &mut self.content().matrices);
        matrices.retain(|(known, _)| *known != title);
        matrices.push((title, matrix.clone()));
    }

    /// Sets what is shown below this title of figures by class: their confusion matrix, and a table of those that come
    /// without one. A [fit](crate::train::Trainer) does so for the metrics that its closure records, after every epoch.
    pub fn figures(&self, title: impl Into<String>, figures: &Figures) {
        let title = title.into();
        if let Some(matrix) = figures.matrix() {
            self.matrix(title.clone(), matrix);
        }
        let by_class = figures.iter().filter(|figure| figure.matrix.is_none() && !figure.by_class.is_empty());
        let by_class: Vec<Figure> = by_class.cloned().collect();
        let known = &mut self.content().by_class;
        known.retain(|(other, _)| *other != title);
        if !by_class.is_empty() {
            known.push((title, by_class));
        }
    }

    /// Adds an item with its prediction.
    pub fn sample(&self, sample: Sample) {
        self.content().samples.push(sample);
    }

    /// Sets the profile of the device ([`Device::profile`](crate::Device::profile)).
    pub fn profile(&self, profile: &Profile) {
        self.content().profile = Some(profile.clone());
    }

    /// Says how the run stands: a sentence below the title.
    pub fn status(&self, text: impl Into<String>) {
        self.content().status = text.into();
    }

    /// The page.
    pub fn html(&self) -> String {
        self.content().html()
    }

    /// Writes the page.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); an old file is then still whole.
    pub fn write(&self) -> Result<()> {
        file::write_text(&self.path, &self.html())
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Content {
    fn html(&self) -> String {
        let mut body = String::new();
        let mut told = vec![];
        if !self.status.is_empty() {
            told.push(self.status.clone());
        }
        let environment = self.settings.as_ref().map(Settings::environment);
        let known = |name: &str| environment.and_then(|map| map.get(name)?.as_str().map(String::from));
        told.extend(known("adapter").zip(known("backend")).map(|(adapter, backend)| format!("{adapter} ({backend})")));
        told.extend(known("started"));
        body += &format!("<p class=\"quiet\">{}</p>\n", escaped(&told.join(" \u{b7} ")));
        body += &page::tiles(&self.tiles());
        for note in &self.notes {
            body += &format!("<p>{}</p>\n", escaped(note));
        }
        if !self.records.is_empty() {
            body += "<h2>Curves</h2>\n";
            body += &curves::charts(&self.records);
            body += "<h2>Figures</h2>\n";
            body += &curves::outcomes(&self.records);
        }
        self.matrices.iter().for_each(|(title, matrix)| body += &sections::matrix(title, matrix));
        self.by_class.iter().for_each(|(title, figures)| body += &sections::figures(title, figures));
        if !self.samples.is_empty() {
            body += &sections::samples(&self.samples);
        }
        if let Some(settings) = &self.settings {
            body += "<h2>Settings</h2>\n<div class=\"halves\">\n";
            body += &sections::settings("Of the run", settings.entries());
            body += &sections::settings("Where it ran", settings.environment());
            body += "</div>\n";
        }
        if let Some(profile) = &self.profile {
            body += &sections::profile(profile);
        }
        page::page(&self.title, &body)
    }

    /// The last figures, at a glance.
    fn tiles(&self) -> Vec<(String, String)> {
        let Some(last) = self.records.last() else { return vec![] };
        let mut tiles = vec![
            ("epochs".to_string(), (last.epoch + 1).to_string()),
            ("steps".into(), last.step.to_string()),
            ("time".into(), page::time(last.seconds)),
        ];
        tiles.extend(last.values.iter().map(|(name, value)| (name.clone(), number(*value))));
        tiles
    }
}
