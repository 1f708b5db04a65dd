//! Tables from CSV files.

use std::path::Path;

use super::table::Table;
use crate::error::{Error, Result};

impl Table {
    /// The table of a CSV file (UTF-8) whose first line names the columns; `separator` is `b','` or another byte.
    /// Values may be quoted, with `""` for a quote; lines that are empty are left out. Errors name the line.
    ///
    /// ```
    /// use kiln::data::{self, Classes, DataLoader, Dataset, Feature, Features, Missing, Split, Table};
    ///
    /// # let path = std::env::temp_dir().join(format!("kiln-flowers-{}.csv", std::process::id()));
    /// # std::fs::write(&path, "length,kind\n1.4,a\n4.7,b\n,a\n5.1,b\n1.3,a\n4.9,b\n1.5,a\n5.0,b\n").unwrap();
    /// let table = Table::read(&path, b',')?; // two columns: length, kind
    /// # std::fs::remove_file(&path).unwrap();
    /// // Parts are chosen by class; what is fitted sees the training part alone.
    /// let kinds = Classes::fit(&table, "kind")?.apply(&table)?;
    /// let parts = data::split(kinds.clone(), Split::Stratified(kinds.as_slice()), &[0.75, 0.25], 42)?;
    /// let (train, test) = (table.select(parts[0].indices())?, table.select(parts[1].indices())?);
    /// let features = Features::fit(&train, [Feature::number("length").missing(Missing::Mean)])?;
    /// let classes = Classes::fit(&train, "kind")?;
    /// let loader = DataLoader::new(features.apply(&train)?.zip(classes.apply(&train)?)?, 2).shuffle(42);
    /// let judge = DataLoader::new(features.apply(&test)?.zip(classes.apply(&test)?)?, 0);
    /// assert_eq!((loader.items(), judge.items()), (6, 2));
    /// # Ok::<(), kiln::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::File`] for a row with more or fewer values than there are
    /// columns, for what is no UTF-8, and for an empty file; [`Error::Data`] for two columns of one name.
    pub fn read(path: impl AsRef<Path>, separator: u8) -> Result<Table> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        let at = |offset: u64, what: String| {
            let next = "correct the file, or pass the byte that separates its values";
            Error::File { path: path.into(), offset, what, next }
        };
        let refuse = |error: csv::Error| {
            let start = beginning(&bytes, error.position());
            let line = 1 + newlines(&bytes[..start]);
            let what = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    format!("line {line} has {len} values, of {expected_len}")
                }
                csv::ErrorKind::Utf8 { err, .. } => format!("value {} of line {line} is no UTF-8", err.field() + 1),
                _ => error.to_string(),
            };
            at(start as u64, what)
        };
        let text = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<String>>();
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(&bytes[..]);
        let columns = text(reader.headers().map_err(refuse)?);
        if columns.is_empty() {
            return Err(at(0, "it is empty: the first line names the columns".into()));
        }
        let (mut rows, mut lines, mut counted, mut line) = (vec![], vec![], 0, 1);
        for record in reader.records() {
            let record = record.map_err(refuse)?;
            let start = beginning(&bytes, record.position());
            line += newlines(&bytes[counted..start]);
            counted = start;
            lines.push(line);
            rows.push(text(&record));
        }
        Table::of_file(path, columns, rows, lines)
    }
}

/// The byte at which a record begins: the reader counts what is left of the line end before, and empty lines, to it.
fn beginning(bytes: &[u8], position: Option<&csv::Position>) -> usize {
    let start = position.map_or(0, |position| position.byte() as usize).min(bytes.len());
    start + bytes[start..].iter().take_while(|byte| b"\r\n".contains(byte)).count()
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'\n').count()
}
