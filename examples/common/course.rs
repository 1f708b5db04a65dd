//! Curves of a fit over its steps.

use kiln::plot::Chart;
use kiln::train::History;

/// A chart of numbers of the epochs, by name, over the steps that were done.
pub fn curves(history: &History, title: &str, unit: &str, names: &[&str]) -> String {
    names
        .iter()
        .fold(Chart::new(title).axes("step", unit), |chart, name| {
            let known = history.epochs.iter().filter_map(|at| Some((at.step as f64, at.get(name)?)));
            chart.line(*name, known)
        })
        .svg()
}
