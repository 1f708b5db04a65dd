//! Several runs on one page.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::super::settings::Settings;
use super::super::table::JsonLines;
use super::{curves, page, sections};
use crate::error::Result;
use crate::file;
use crate::plot::Chart;
use crate::plot::page::{cell, number, table};
use crate::train::Record;

/// Several runs on one page: a chart for each figure with a line a run, the last figures, and settings side by side.
///
/// ```
/// use kiln::train::Record;
/// use kiln::train::records::{Comparison, Settings};
///
/// let run = |losses: [f64; 3]| -> Vec<Record> {
///     let record = |(epoch, loss): (u64, f64)| {
///         Record { epoch, step: epoch, values: [("loss".to_string(), loss)].into(), seconds: 0.0 }
///     };
///     (0..).zip(losses).map(record).collect()
/// };
/// let page = Comparison::new("Learning rates")
///     .run("0.1", &Settings::default().with("lr", 0.1), &run([2.0, 1.0, 0.5]))
///     .run("0.01", &Settings::default().with("lr", 0.01), &run([2.2, 1.9, 1.6]))
///     .html();
/// assert_eq!(page.matches("<svg").count(), 1);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    title: String,
    runs: Vec<Run>,
}

#[derive(Debug, Clone)]
struct Run {
    name: String,
    settings: Settings,
    records: Vec<Record>,
}

impl Comparison {
    /// A page of no runs.
    pub fn new(title: impl Into<String>) -> Comparison {
        Comparison { title: title.into(), runs: vec![] }
    }

    /// Adds a run with the records of its epochs.
    pub fn run(mut self, name: impl Into<String>, settings: &Settings, records: &[Record]) -> Comparison {
        self.runs.push(Run { name: name.into(), settings: settings.clone(), records: records.to_vec() });
        self
    }

    /// Adds a run by its folder, whose name it takes: `settings.json` ([`Settings::write`]) and the epochs of `log.jsonl`
    /// ([`JsonLines`]).
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) or [`Error::File`](crate::Error::File) of one of the two.
    pub fn folder(self, folder: impl AsRef<Path>) -> Result<Comparison> {
        let folder = folder.as_ref();
        let settings = Settings::read(folder)?;
        let records = JsonLines::read(folder.join("log.jsonl"), "epoch")?;
        let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Ok(self.run(name, &settings, &records))
    }

    /// The page.
    pub fn html(&self) -> String {
        let body = self.charts() + &self.outcomes() + &self.settings();
        page::page(&self.title, &body)
    }

    /// Writes the page; the folder is made if it is not there.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io); an old file is then still whole.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write_text(path.as_ref(), &self.html())
    }

    fn charts(&self) -> String {
        let names = curves::names(self.runs.iter().flat_map(|run| &run.records));
        let all = names.into_iter().flat_map(|name| [name.clone(), format!("val_{name}")]);
        let chart = |name: String| {
            let mut chart = Chart::new(&name).axes("epoch", "");
            let mut is_there = false;
            // Every run has its line in every chart, so that it has one colour.
            for run in &self.runs {
                is_there |= curves::points(&run.records, &name).next().is_some();
                chart = chart.line(&run.name, curves::points(&run.records, &name));
            }
            is_there.then_some(chart)
        };
        format!("<h2>Curves</h2>\n{}", curves::grid(all.filter_map(chart)))
    }

    fn outcomes(&self) -> String {
        let last = |run: &Run| run.records.last().cloned().unwrap_or_default();
        let names: BTreeSet<String> = self.runs.iter().flat_map(|run| last(run).values.into_keys()).collect();
        let mut headers = vec!["run", "epochs", "steps", "time"];
        headers.extend(names.iter().map(String::as_str));
        let rows = self.runs.iter().map(|run| {
            let last = last(run);
            let fixed =
                [run.name.clone(), run.records.len().to_string(), last.step.to_string(), page::time(last.seconds)];
            let values = names.iter().map(|name| last.get(name).map_or(String::new(), number));
            fixed.into_iter().chain(values).map(cell).collect::<String>()
        });
        format!("<h2>Last figures</h2>\n{}", table(&headers, rows))
    }

    /// Settings and environments, those that differ first.
    fn settings(&self) -> String {
        let maps = |run: &Run| [run.settings.entries().clone(), run.settings.environment().clone()];
        let names: BTreeSet<(usize, String)> = self
            .runs
            .iter()
            .flat_map(|run| maps(run).into_iter().enumerate())
            .flat_map(|(kind, map)| map.into_iter().map(move |(name, _)| (kind, name)))
            .collect();
        let values = |kind: usize, name: &str| -> Vec<Option<Value>> {
            self.runs.iter().map(|run| maps(run)[kind].get(name).cloned()).collect()
        };
        let mut rows: Vec<(bool, String)> = names
            .into_iter()
            .map(|(kind, name)| {
                let values = values(kind, &name);
                let differs = values.iter().any(|value| *value != values[0]);
                let shown =
                    values.iter().map(|value| page::text_cell(value.as_ref().map_or(String::new(), sections::setting)));
                (differs, cell(name) + &shown.collect::<String>())
            })
            .collect();
        rows.sort_by_key(|(differs, _)| !differs);
        let headers: Vec<&str> = std::iter::once("").chain(self.runs.iter().map(|run| run.name.as_str())).collect();
        let html = table(&headers, rows.iter().map(|(_, row)| row.clone()));
        // The table marks its rows; those that differ come first.
        let differing = rows.iter().filter(|(differs, _)| *differs).count();
        let html = html.replacen("<tr><td>", "<tr class=\"differs\"><td>", differing);
        format!("<h2>Settings</h2>\n<p class=\"quiet\">Those that differ come first.</p>\n{html}")
    }
}
