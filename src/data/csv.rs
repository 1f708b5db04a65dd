//! Tables from CSV files.

use std::path::Path;

use super::table::Table;
use crate::error::{Error, Result};

impl Table {
    /// The table of a CSV file (UTF-8) whose first row names the columns; `separator` is `b','` or another byte.
    /// Values may be quoted, with `""` for a quote.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::File`] for a row with more or fewer values than there are
    /// columns, and for what is no UTF-8; [`Error::Data`] for two columns of one name.
    pub fn read(path: impl AsRef<Path>, separator: u8) -> Result<Table> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, "read", error))?;
        let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(&bytes[..]);
        let refuse = |error: csv::Error| {
            let offset = error.position().map_or(0, csv::Position::byte);
            let what = match error.kind() {
                csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                    let line = pos.as_ref().map_or(0, csv::Position::line);
                    format!("line {line} has {len} values, of {expected_len}")
                }
                _ => error.to_string(),
            };
            Error::File { path: path.into(), offset, what, next: "correct the file, or name its separator" }
        };
        let text = |record: &csv::StringRecord| record.iter().map(String::from).collect::<Vec<String>>();
        let columns = text(reader.headers().map_err(refuse)?);
        let rows: Result<Vec<Vec<String>>, csv::Error> =
            reader.records().map(|record| record.map(|record| text(&record))).collect();
        let table = Table::new(columns, rows.map_err(refuse)?);
        match table {
            Ok(table) => Ok(table.read_from(path)),
            Err(Error::Data { what, next }) => Err(Error::Data { what: format!("{}: {what}", path.display()), next }),
            Err(error) => Err(error),
        }
    }
}
