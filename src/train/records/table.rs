//! Records as tables that other programs read: CSV, and a line of JSON each.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::settings::Settings;
use super::sink::Sink;
use crate::error::{Error, Result};
use crate::file;
use crate::train::Record;

/// A table of records as a CSV file (RFC 4180): `epoch`, `step`, `seconds`, and a column for each name. Epochs count from
/// 0. Cells of a record that has no such number are empty; numbers come back to the bit, and those that are not finite are
/// `NaN`, `inf` and `-inf`.
///
/// ```
/// use kiln::train::Record;
/// use kiln::train::records::CsvLog;
///
/// # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-csv", std::process::id()));
/// let mut log = CsvLog::new(folder.join("epochs.csv"));
/// let values = [("loss".to_string(), 0.5)].into();
/// log.write(&Record { epoch: 0, step: 23, values, seconds: 1.5 })?;
/// assert_eq!(std::fs::read_to_string(log.path()).unwrap(), "epoch,step,seconds,loss\r\n0,23,1.5,0.5\r\n");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// It is a [`Callback`](crate::train::Callback) too: a row an epoch.
#[derive(Debug)]
pub struct CsvLog {
    sink: Sink,
    /// Names of the columns after the first three, once they are known.
    names: Option<Vec<String>>,
    /// Epoch and step of the last row that [`CsvLog::rewind`] has kept.
    kept: Option<(u64, u64)>,
}

const FIXED: [&str; 3] = ["epoch", "step", "seconds"];

impl CsvLog {
    /// A table in this file; its folder is made if it is not there. Rows are appended to those of an earlier run: see
    /// [`CsvLog::rewind`].
    pub fn new(path: impl Into<PathBuf>) -> CsvLog {
        CsvLog { sink: Sink::new(path), names: None, kept: None }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.sink.path()
    }

    /// Appends a row. A name that is new makes the file anew, with one more column.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing is written then, and a later call tries again. [`Error::File`] if there is a file that is
    /// no such table.
    pub fn write(&mut self, record: &Record) -> Result<()> {
        let mut names = match &self.names {
            Some(names) => names.clone(),
            None => self.read()?.map_or(vec![], |(names, _)| names),
        };
        let known = self.names.as_ref().map(Vec::len);
        let more = record.values.keys().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>();
        names.extend(more);
        let row = row(record, &names);
        // What an earlier program has left is written anew once, without a row that is not whole.
        if known == Some(names.len()) {
            self.sink.append(row.as_bytes())?;
        } else {
            let rows = self.read()?.map_or(vec![], |(_, rows)| rows);
            self.replace(&names, rows.iter().map(String::as_str).chain([row.trim_end()]))?;
        }
        self.names = Some(names);
        Ok(())
    }

    /// Leaves out rows of later steps than this, as a run does that goes on from a checkpoint, and what a killed program
    /// has left of a row.
    ///
    /// # Errors
    /// As [`CsvLog::write`].
    pub fn rewind(&mut self, step: u64) -> Result<()> {
        if let Some((names, rows)) = self.read()? {
            let is_kept =
                |row: &&str| row.split(',').nth(1).and_then(|step| step.parse().ok()).is_some_and(|at: u64| at <= step);
            let kept: Vec<&str> = rows.iter().map(String::as_str).filter(is_kept).collect();
            let number = |row: &str, cell: usize| row.split(',').nth(cell)?.parse().ok();
            let last = kept.last().copied();
            self.kept = last.and_then(|row| number(row, 0).zip(number(row, 1)));
            self.replace(&names, kept.into_iter())?;
            self.names = Some(names);
        }
        Ok(())
    }

    /// Appends a row unless it is there: a run that was killed behind it, and goes on from before, comes to it again.
    pub(super) fn write_once(&mut self, record: &Record) -> Result<()> {
        if self.kept == Some((record.epoch, record.step)) { Ok(()) } else { self.write(record) }
    }

    /// The names of the further columns and all whole rows of the file, if there is one.
    fn read(&mut self) -> Result<Option<(Vec<String>, Vec<String>)>> {
        let Some(text) = read(self.path())? else { return Ok(None) };
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let mut lines = lines.by_ref().map(|line| line.trim_end_matches('\r').to_string());
        let Some(header) = lines.next() else { return Ok(None) };
        let mut names = cells(&header);
        if !names.iter().take(3).eq(&FIXED) {
            let what = format!("it begins with `{header}`, which is no table of epochs");
            let next = "choose another path, or remove the file";
            return Err(Error::File { path: self.path().into(), offset: 0, what, next });
        }
        Ok(Some((names.split_off(3), lines.collect())))
    }

    fn replace<'a>(&mut self, names: &[String], rows: impl Iterator<Item = &'a str>) -> Result<()> {
        let header = FIXED.iter().map(|name| name.to_string()).chain(names.iter().map(|name| quoted(name)));
        let mut text = header.collect::<Vec<_>>().join(",") + "\r\n";
        for row in rows {
            // Rows from before the last columns came.
            let missing = (FIXED.len() + names.len()).saturating_sub(row.split(',').count());
            text += &format!("{row}{}\r\n", ",".repeat(missing));
        }
        replace(&mut self.sink, &text)
    }
}

fn row(record: &Record, names: &[String]) -> String {
    let fixed = [record.epoch.to_string(), record.step.to_string(), record.seconds.to_string()];
    let number = |value: f64| {
        let text = format!("{value:?}");
        text.strip_suffix(".0").map_or(text.clone(), String::from)
    };
    let values = names.iter().map(|name| record.get(name).map_or(String::new(), number));
    fixed.into_iter().chain(values).collect::<Vec<_>>().join(",") + "\r\n"
}

/// A text as a cell. Lines are not broken within cells: names have none.
fn quoted(text: &str) -> String {
    let text = text.replace(['\r', '\n'], " ");
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The cells of a line.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut is_quoted) = (vec![], String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' if is_quoted && characters.peek() == Some(&'"') => cell.extend(characters.next()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(std::mem::take(&mut cell)),
            c => cell.push(c),
        }
    }
    cells.push(cell);
    cells
}

/// A log of JSON objects, one a line: `{"event": .., "epoch": .., "step": .., "seconds": .., "values": {..}}`. Epochs count
/// from 0; numbers come back to the bit, and those that are not finite are texts.
///
/// ```
/// use kiln::train::Record;
/// use kiln::train::records::JsonLines;
///
/// # let folder = std::env::temp_dir().join(format!("kiln-doc-{}-lines", std::process::id()));
/// let mut log = JsonLines::new(folder.join("log.jsonl"));
/// log.write("epoch", &Record { epoch: 0, step: 23, values: [("loss".to_string(), 0.5)].into(), seconds: 1.5 })?;
/// let line = std::fs::read_to_string(log.path()).unwrap();
/// assert_eq!(line, "{\"event\":\"epoch\",\"epoch\":0,\"step\":23,\"seconds\":1.5,\"values\":{\"loss\":0.5}}\n");
/// # std::fs::remove_dir_all(&folder).unwrap();
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// It is a [`Callback`](crate::train::Callback) too: events `logged`, `validated` and `epoch` of a trainer.
#[derive(Debug)]
pub struct JsonLines {
    sink: Sink,
    /// True once the file is known to end with a whole line.
    is_whole: bool,
    /// Events and steps of the lines that [`JsonLines::rewind`] has kept.
    kept: BTreeSet<(String, u64)>,
}

impl JsonLines {
    /// A log in this file; its folder is made if it is not there. Lines are appended to those of an earlier run: see
    /// [`JsonLines::rewind`].
    pub fn new(path: impl Into<PathBuf>) -> JsonLines {
        JsonLines { sink: Sink::new(path), is_whole: false, kept: BTreeSet::new() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.sink.path()
    }

    /// Appends a record.
    ///
    /// # Errors
    /// [`Error::Io`]: nothing is written then, and a later call tries again.
    pub fn write(&mut self, event: &str, record: &Record) -> Result<()> {
        let Record { epoch, step, seconds, .. } = record;
        // In this order, for those who read the lines themselves.
        let values = &record.to_json()["values"];
        let event = json!(event);
        let line = format!(
            "{{\"event\":{event},\"epoch\":{epoch},\"step\":{step},\"seconds\":{},\"values\":{values}}}\n",
            json!(seconds)
        );
        self.append(&line)
    }

    /// Appends a record unless it is there: a run that was killed behind it, and goes on from before, comes to it again.
    pub(super) fn write_once(&mut self, event: &str, record: &Record) -> Result<()> {
        let is_there = !self.kept.is_empty() && self.kept.contains(&(event.to_string(), record.step));
        if is_there { Ok(()) } else { self.write(event, record) }
    }

    /// Appends the settings of a run, as `{"event": "settings", "settings": .., "environment": ..}`.
    ///
    /// # Errors
    /// As [`JsonLines::write`].
    pub fn settings(&mut self, settings: &Settings) -> Result<()> {
        let (entries, environment) = (json!(settings.entries()), json!(settings.environment()));
        let line = format!("{{\"event\":\"settings\",\"settings\":{entries},\"environment\":{environment}}}\n");
        self.append(&line)
    }

    fn append(&mut self, line: &str) -> Result<()> {
        if !self.is_whole {
            if read(self.path())?.is_some_and(|text| !text.is_empty() && !text.ends_with('\n')) {
                self.rewind(u64::MAX)?;
            }
            self.is_whole = true;
        }
        self.sink.append(line.as_bytes())
    }

    /// Leaves out lines of later steps than this, as a run does that goes on from a checkpoint, and what a killed program
    /// has left of a line.
    ///
    /// # Errors
    /// [`Error::Io`]; an old file is then still whole.
    pub fn rewind(&mut self, step: u64) -> Result<()> {
        let Some(text) = read(self.path())? else { return Ok(()) };
        let (mut kept, mut known) = (String::new(), BTreeSet::new());
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
            let (event, at) = (value["event"].as_str().unwrap_or_default(), value["step"].as_u64());
            if at.is_none_or(|at| at <= step) {
                known.extend(at.map(|at| (event.to_string(), at)));
                kept += line;
            }
        }
        self.kept = known;
        replace(&mut self.sink, &kept)
    }

    /// The records of a file that are of this event; a last line that is not whole is left out.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] for a line that is no record.
    pub fn read(path: impl AsRef<Path>, event: &str) -> Result<Vec<Record>> {
        let path = path.as_ref();
        let text = fs::read_to_string(path).map_err(|error| Error::io(path, "read", error))?;
        let (mut records, mut offset) = (vec![], 0);
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            let value: Option<Value> = serde_json::from_str(line).ok();
            match value {
                Some(value) if value["event"] != event => {}
                value => match value.as_ref().and_then(Record::of_json) {
                    Some(record) => records.push(record),
                    None => {
                        let (what, next) = ("a line that is no record".into(), "take another copy of the file");
                        return Err(Error::File { path: path.into(), offset, what, next });
                    }
                },
            }
            offset += line.len() as u64;
        }
        Ok(records)
    }
}

/// The text of a file, if there is one.
fn read(path: &Path) -> Result<Option<String>> {
    // What is no file (a pipe, a terminal) may have no end.
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Ok(None);
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "read", error)),
    }
}

/// Puts another text in the place of a sink's file.
fn replace(sink: &mut Sink, text: &str) -> Result<()> {
    sink.close();
    file::write_text(sink.path(), text)
}
