//! Curves of a run's figures, and what they come to.

use std::collections::BTreeSet;

use crate::plot::page::{cell, number, table};
use crate::plot::{Chart, escaped};
use crate::train::Record;

/// Size of a chart: three stand side by side on a screen, and on a phone letters keep their size.
const SIZE: [f64; 2] = [400.0, 280.0];
const VALIDATION: &str = "val_";

/// A name without what says that it is of validation.
fn base(name: &str) -> &str {
    name.strip_prefix(VALIDATION).unwrap_or(name)
}

/// The names of what there is a curve of, the losses first, the learning rate last.
pub(super) fn names<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<String> {
    let all: BTreeSet<&str> = records.flat_map(|record| record.values.keys()).map(|name| base(name)).collect();
    let mut names: Vec<String> = all.into_iter().map(String::from).collect();
    names.sort_by_key(|name| (name == "lr", !name.contains("loss")));
    names
}

/// A point for each record with this number.
pub(super) fn points<'a>(records: &'a [Record], name: &'a str) -> impl Iterator<Item = (f64, f64)> + 'a {
    records.iter().filter_map(move |record| Some((record.epoch as f64 + 1.0, record.get(name)?)))
}

/// A chart for each name, of training and of validation together.
pub(super) fn charts(records: &[Record]) -> String {
    let charts = names(records.iter()).into_iter().map(|name| {
        let validation = format!("{VALIDATION}{name}");
        let mut chart = Chart::new(&name).axes("epoch", "");
        for (label, name) in [("training", name.as_str()), ("validation", validation.as_str())] {
            if points(records, name).next().is_some() {
                chart = chart.line(label, points(records, name));
            }
        }
        chart
    });
    grid(charts)
}

/// Charts side by side.
pub(super) fn grid(charts: impl Iterator<Item = Chart>) -> String {
    let figures = charts.map(|chart| format!("<figure>{}</figure>\n", chart.size(SIZE[0], SIZE[1]).svg()));
    format!("<div class=\"charts\">\n{}</div>\n", figures.collect::<String>())
}

/// What each figure has come to: the last, the least and the largest, each with its epoch.
pub(super) fn outcomes(records: &[Record]) -> String {
    let all: BTreeSet<&String> = records.iter().flat_map(|record| record.values.keys()).collect();
    let rows = all.into_iter().filter(|name| *name != "lr").filter_map(|name| {
        let points: Vec<(f64, f64)> = points(records, name).filter(|(_, value)| !value.is_nan()).collect();
        let least = points.iter().min_by(|one, other| one.1.total_cmp(&other.1))?;
        // Of equal ones the first.
        let largest = points.iter().rev().max_by(|one, other| one.1.total_cmp(&other.1))?;
        let at = |(epoch, value): &(f64, f64)| {
            format!("<td>{} <span class=\"quiet\">({epoch})</span></td>", escaped(&number(*value)))
        };
        Some(cell(name) + &at(points.last()?) + &at(least) + &at(largest))
    });
    table(&["figure", "last (epoch)", "least", "largest"], rows.collect::<Vec<_>>())
}
