//! Tables: columns of text with names, and numbers made of them by what the training part says alone.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::collate::HostArray;
use super::dataset::{Dataset, Items, beyond, items};
use crate::error::{Error, Result};

/// What stands for a value that is not there.
const MISSING: [&str; 5] = ["", "NA", "N/A", "NaN", "null"];

/// Rows of text under the names of their columns. `Table::read` (feature `csv`) reads one from a CSV file.
///
/// ```
/// use kiln::data::{Classes, Dataset, Feature, Features, Missing, Table};
///
/// let text = [["1.0", "red", "yes"], ["3.0", "blue", "no"], ["", "red", "no"]];
/// let table = Table::new(["size", "colour", "bought"], text.map(|row| row.map(String::from).to_vec()).to_vec())?;
/// let train = table.select(&[0, 1])?; // what is fitted sees these rows alone
///
/// let features = [Feature::number("size").missing(Missing::Mean), Feature::class("colour")];
/// let features = Features::fit(&train, features)?;
/// let classes = Classes::fit(&train, "bought")?;
/// let set = features.apply(&table)?.zip(classes.apply(&table)?)?;
/// assert_eq!(features.names(), ["size", "colour=blue", "colour=red"]);
/// assert_eq!(set.get(2)?.0.values, [0.0, 0.0, 1.0]); // the mean, standardised; not blue; red
/// assert_eq!(set.get(0)?.1, 1); // "yes" is behind "no"
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table {
    path: Option<PathBuf>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// The number of each row, or its line in the file: for errors.
    numbers: Vec<usize>,
}

impl Table {
    /// A table of your own.
    ///
    /// # Errors
    /// [`Error::Data`] for two columns of one name, and for a row with another number of values than there are columns.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>, rows: Vec<Vec<String>>) -> Result<Table> {
        let numbers = (0..rows.len()).collect();
        Table { path: None, columns: columns.into_iter().map(Into::into).collect(), rows, numbers }.checked()
    }

    /// A table of a file, with the line of each row.
    ///
    /// # Errors
    /// As for [`Table::new`].
    #[cfg(feature = "csv")]
    pub(super) fn of_file(
        path: &std::path::Path,
        columns: Vec<String>,
        rows: Vec<Vec<String>>,
        lines: Vec<usize>,
    ) -> Result<Table> {
        Table { path: Some(path.into()), columns, rows, numbers: lines }.checked()
    }

    fn checked(self) -> Result<Table> {
        let mut seen = BTreeSet::new();
        if let Some(name) = self.columns.iter().find(|name| !seen.insert(*name)) {
            return Err(self.wrong(format!("two columns are called `{name}`"), "give each column its own name"));
        }
        if let Some(row) = self.rows.iter().position(|row| row.len() != self.columns.len()) {
            let what = format!("row {row} has {} values, of {}", self.rows[row].len(), self.columns.len());
            return Err(self.wrong(what, "give each row a value a column"));
        }
        Ok(self)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The rows of these numbers.
    ///
    /// # Errors
    /// [`Error::Data`] for a row that is not there.
    pub fn select(&self, rows: &[usize]) -> Result<Table> {
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows.len()) {
            return Err(beyond(row, self.rows.len()));
        }
        Ok(Table {
            path: self.path.clone(),
            columns: self.columns.clone(),
            rows: rows.iter().map(|&row| self.rows[row].clone()).collect(),
            numbers: rows.iter().map(|&row| self.numbers[row]).collect(),
        })
    }

    /// The text of a column; none where the value is missing: empty, `NA`, `N/A`, `NaN` or `null`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column.
    pub fn text(&self, column: &str) -> Result<Vec<Option<&str>>> {
        let Some(place) = self.columns.iter().position(|name| name == column) else {
            let what = format!("there is no column `{column}`, but {:?}", self.columns);
            return Err(self.wrong(what, "name one of these"));
        };
        let value = |row: &Vec<String>| Some(row[place].trim()).filter(|value| !MISSING.contains(value)).is_some();
        Ok(self.rows.iter().map(|row| value(row).then(|| row[place].trim())).collect())
    }

    /// The numbers of a column; none where one is missing.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column, or a value is no finite number.
    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>> {
        let number = |(row, value): (usize, Option<&str>)| {
            let Some(text) = value else { return Ok(None) };
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            number.map(Some).ok_or_else(|| {
                let what = format!("`{text}` in {} is no number", self.place(row, column));
                self.wrong(what, "correct it, or read the column as classes")
            })
        };
        self.text(column)?.into_iter().enumerate().map(number).collect()
    }

    /// The numbers of a column as a data set: what a regression learns.
    ///
    /// # Errors
    /// As for [`Table::numbers`], and if one is missing.
    pub fn target(&self, column: &str) -> Result<Items<f32>> {
        let values = self.numbers(column)?.into_iter().enumerate().map(|(row, value)| {
            let value = value.ok_or_else(|| self.missing(row, column))?;
            Ok(value as f32)
        });
        Ok(items(values.collect::<Result<Vec<f32>>>()?))
    }

    fn place(&self, row: usize, column: &str) -> String {
        let unit = if self.path.is_some() { "line" } else { "row" };
        format!("{unit} {} of column `{column}`", self.numbers[row])
    }

    fn missing(&self, row: usize, column: &str) -> Error {
        let what = format!("{} has no value", self.place(row, column));
        self.wrong(what, "say what stands for it (`Feature::missing`), or leave the row out")
    }

    fn wrong(&self, what: String, next: &'static str) -> Error {
        let path = self.path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        Error::Data { what: path + &what, next }
    }
}

/// What stands for a value that is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Missing {
    /// Nothing: it is an error.
    #[default]
    Refuse,
    /// The mean of the training part; of a class, zeros.
    Mean,
    /// A number, before it is standardised; of a class, zeros.
    Value(f64),
}

/// How a column becomes numbers.
#[derive(Debug, Clone)]
pub struct Feature {
    column: String,
    missing: Missing,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Standardised,
    Raw,
    Class,
}

impl Feature {
    /// A number, standardised: less the mean of the training part, over its standard deviation.
    pub fn number(column: impl Into<String>) -> Feature {
        Feature { column: column.into(), missing: Missing::Refuse, kind: Kind::Standardised }
    }

    /// A number as it is.
    pub fn raw(column: impl Into<String>) -> Feature {
        Feature { column: column.into(), missing: Missing::Refuse, kind: Kind::Raw }
    }

    /// A class: for each one of the training part, in order of their bytes, a number that is 1 where it is this one.
    pub fn class(column: impl Into<String>) -> Feature {
        Feature { column: column.into(), missing: Missing::Refuse, kind: Kind::Class }
    }

    /// What stands for a missing value (default: it is an error).
    #[must_use]
    pub fn missing(mut self, missing: Missing) -> Feature {
        self.missing = missing;
        self
    }
}

/// Columns as numbers, by what the training part says.
#[derive(Debug, Clone)]
pub struct Features(Vec<(Feature, Fit)>);

#[derive(Debug, Clone)]
enum Fit {
    Number { mean: f64, deviation: f64 },
    Classes(Classes),
}

impl Features {
    /// Takes means, deviations and classes from `train` alone.
    ///
    /// # Errors
    /// What is wrong with a column: it is not there, holds no numbers, or has no value at all.
    pub fn fit(train: &Table, features: impl IntoIterator<Item = Feature>) -> Result<Features> {
        let fit = |feature: Feature| {
            let column = &feature.column;
            if feature.kind == Kind::Class {
                let classes = Classes::fit(train, column)?;
                return Ok((feature, Fit::Classes(classes)));
            }
            let known: Vec<f64> = train.numbers(column)?.into_iter().flatten().collect();
            if known.is_empty() {
                let what = format!("column `{column}` has no value in the training part");
                return Err(train.wrong(what, "leave the column out"));
            }
            let mean = known.iter().sum::<f64>() / known.len() as f64;
            let square = known.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / known.len() as f64;
            // A column of one value tells nothing: it becomes 0.
            let deviation = if square > 0.0 { square.sqrt() } else { 1.0 };
            Ok((feature, Fit::Number { mean, deviation }))
        };
        features.into_iter().map(fit).collect::<Result<_>>().map(Features)
    }

    /// What each number of a row is: a column, or `column=class`.
    pub fn names(&self) -> Vec<String> {
        let names = |(feature, fit): &(Feature, Fit)| match fit {
            Fit::Number { .. } => vec![feature.column.clone()],
            Fit::Classes(classes) => {
                classes.names.iter().map(|name| format!("{}={name}", feature.column)).collect::<Vec<_>>()
            }
        };
        self.0.iter().flat_map(names).collect()
    }

    /// The rows of a table as numbers.
    ///
    /// # Errors
    /// What is wrong with a column, a value that is missing, and a class that the training part does not have.
    pub fn apply(&self, table: &Table) -> Result<Rows<f32>> {
        let width = self.names().len();
        let mut values = vec![0.0f32; width * table.rows()];
        let mut start = 0;
        for (feature, fit) in &self.0 {
            let column = &feature.column;
            match fit {
                Fit::Number { mean, deviation } => {
                    let (mean, deviation) = if feature.kind == Kind::Raw { (0.0, 1.0) } else { (*mean, *deviation) };
                    for (row, value) in table.numbers(column)?.into_iter().enumerate() {
                        let value = match (value, feature.missing, fit) {
                            (Some(value), ..) => value,
                            (None, Missing::Mean, Fit::Number { mean, .. }) => *mean,
                            (None, Missing::Value(value), _) => value,
                            _ => return Err(table.missing(row, column)),
                        };
                        values[row * width + start] = ((value - mean) / deviation) as f32;
                    }
                    start += 1;
                }
                Fit::Classes(classes) => {
                    for (row, text) in table.text(column)?.into_iter().enumerate() {
                        match text {
                            Some(text) => values[row * width + start + classes.number(table, row, text)?] = 1.0,
                            None if feature.missing == Missing::Refuse => return Err(table.missing(row, column)),
                            None => {}
                        }
                    }
                    start += classes.names.len();
                }
            }
        }
        rows(HostArray { shape: vec![table.rows(), width], values })
    }
}

/// The classes of a column of the training part, in order of their bytes.
#[derive(Debug, Clone)]
pub struct Classes {
    column: String,
    names: Vec<String>,
}

impl Classes {
    /// The classes of a column of `train`.
    ///
    /// # Errors
    /// [`Error::Data`] if there is no such column, or no value in it.
    pub fn fit(train: &Table, column: impl Into<String>) -> Result<Classes> {
        let column = column.into();
        let names: BTreeSet<&str> = train.text(&column)?.into_iter().flatten().collect();
        if names.is_empty() {
            let what = format!("column `{column}` has no value in the training part");
            return Err(train.wrong(what, "leave the column out"));
        }
        let names = names.into_iter().map(String::from).collect();
        Ok(Classes { column, names })
    }

    /// Their names; the number of a class is its place.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The numbers of the classes of a table.
    ///
    /// # Errors
    /// [`Error::Data`] for a value that is missing, or no class of the training part.
    pub fn apply(&self, table: &Table) -> Result<Items<u32>> {
        let numbers = table.text(&self.column)?.into_iter().enumerate().map(|(row, text)| {
            let text = text.ok_or_else(|| table.missing(row, &self.column))?;
            Ok(self.number(table, row, text)? as u32)
        });
        Ok(items(numbers.collect::<Result<Vec<u32>>>()?))
    }

    fn number(&self, table: &Table, row: usize, text: &str) -> Result<usize> {
        self.names.binary_search_by(|name| name.as_str().cmp(text)).map_err(|_| {
            let place = table.place(row, &self.column);
            let what = format!("`{text}` in {place} is no class of the training part");
            table.wrong(what, "split so that each class is in the training part, or leave these rows out")
        })
    }
}

/// The rows of an array: [`rows`] makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows<T>(HostArray<T>);

/// A data set of what lies along the first axis of an array.
///
/// # Errors
/// [`Error::Data`] for an array without axes, or whose values are not as many as its shape says.
pub fn rows<T: Copy + Send + Sync>(array: HostArray<T>) -> Result<Rows<T>> {
    let array = HostArray::new(array.shape, array.values)?;
    if array.shape.is_empty() {
        let what = "an array without axes".into();
        return Err(Error::Data { what, next: "pass one with items along its first axis" });
    }
    Ok(Rows(array))
}

impl<T> Rows<T> {
    /// The whole array.
    pub fn array(&self) -> &HostArray<T> {
        &self.0
    }
}

impl<T: Copy + Send + Sync> Dataset for Rows<T> {
    type Item = HostArray<T>;

    fn len(&self) -> usize {
        self.0.shape[0]
    }

    fn get(&self, index: usize) -> Result<HostArray<T>> {
        let count = self.len();
        if index >= count {
            return Err(beyond(index, count));
        }
        let size = self.0.values.len() / count;
        let values = self.0.values[index * size..][..size].to_vec();
        Ok(HostArray { shape: self.0.shape[1..].to_vec(), values })
    }
}
