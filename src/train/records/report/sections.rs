//! The sections of a report, as HTML.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::Sample;
use super::page::text_cell;
use crate::plot::escaped;
use crate::plot::page::{cell, number, table};
use crate::profile::{Clock, Profile};
use crate::train::metrics::{ConfusionMatrix, Figure, Scores};

/// Most classes whose matrix is shown whole, and most pairs that are shown of more.
const SHOWN: usize = 40;
/// Most classes in a table.
const ROWS: usize = 1000;
/// Most kernels of a profile that are shown.
const KERNELS: usize = 20;

/// A value of the settings as a reader wants it.
pub(super) fn setting(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(setting).collect::<Vec<_>>().join(" "),
        Value::Object(map) => {
            map.iter().map(|(name, value)| format!("{name}={}", setting(value))).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

pub(super) fn settings(title: &str, entries: &Map<String, Value>) -> String {
    let is_there = |value: &Value| !matches!(value, Value::Object(map) if map.is_empty());
    let shown = entries.iter().filter(|(_, value)| is_there(value));
    let rows: Vec<String> = shown.map(|(name, value)| cell(name) + &text_cell(setting(value))).collect();
    if rows.is_empty() { String::new() } else { format!("<div><h3>{title}</h3>\n{}</div>\n", table(&[], rows)) }
}

/// The matrix, its most frequent mistakes, and the figures of each class.
pub(super) fn matrix(title: &str, matrix: &ConfusionMatrix) -> String {
    let total = matrix.total();
    let mut html = format!(
        "<h2>{}</h2>\n<p class=\"quiet\">{} of {total} are right: {} %.</p>\n<div class=\"halves\">\n<div>",
        escaped(title),
        matrix.correct(),
        number(100.0 * matrix.accuracy())
    );
    html += &if matrix.classes() <= SHOWN { whole(matrix) } else { mistakes(matrix) };
    html += "</div>\n<div>";
    html += &by_class(matrix);
    html + "</div>\n</div>\n"
}

/// Rows are the classes, columns what they were taken for; the colour is the share of the row.
fn whole(matrix: &ConfusionMatrix) -> String {
    let classes = 0..matrix.classes();
    let mut html = String::from(
        "<h3>Confusion</h3>\n<p class=\"quiet\">A row for each label, a column for each prediction.</p>\n\
         <div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th></th>",
    );
    classes.clone().for_each(|class| _ = write!(html, "<th>{}</th>", escaped(&matrix.class_name(class))));
    html += "</tr></thead>\n<tbody>\n";
    for label in classes.clone() {
        let support: u64 = classes.clone().map(|class| matrix.count(label, class)).sum();
        _ = write!(html, "<tr><th>{}</th>", escaped(&matrix.class_name(label)));
        for class in classes.clone() {
            let count = matrix.count(label, class);
            let share = if support == 0 { 0.0 } else { count as f64 / support as f64 };
            let kind = match share {
                _ if count == 0 => " class=\"none\"",
                0.5.. => " class=\"strong\"",
                _ => "",
            };
            _ = write!(html, "<td{kind} style=\"--share:{share:.3}\">{count}</td>");
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table></div>\n"
}

/// The pairs that are taken for each other most often.
fn mistakes(matrix: &ConfusionMatrix) -> String {
    let classes = 0..matrix.classes();
    let pairs = classes.clone().flat_map(|label| classes.clone().map(move |class| (label, class)));
    let mut wrong: Vec<(u64, usize, usize)> = pairs
        .filter(|(label, class)| label != class)
        .map(|(label, class)| (matrix.count(label, class), label, class))
        .filter(|(count, ..)| *count > 0)
        .collect();
    wrong.sort_by_key(|&(count, label, class)| (std::cmp::Reverse(count), label, class));
    let rows = wrong.iter().take(SHOWN).map(|&(count, label, class)| {
        text_cell(matrix.class_name(label)) + &text_cell(matrix.class_name(class)) + &cell(count.to_string())
    });
    format!("<h3>Most frequent mistakes</h3>\n{}", table(&["label", "taken for", "times"], rows))
}

fn by_class(matrix: &ConfusionMatrix) -> String {
    let row = |name: &str, scores: &Scores| {
        let figures = [scores.precision, scores.recall, scores.f1].map(|figure| cell(format!("{figure:.3}")));
        cell(name) + &figures.concat() + &cell(scores.support.to_string())
    };
    let scores = matrix.scores();
    let mut rows: Vec<String> =
        scores.iter().enumerate().map(|(class, scores)| row(&matrix.class_name(class), scores)).collect();
    rows.push(row("macro average", &matrix.macro_average()));
    rows.push(row("weighted average", &matrix.weighted_average()));
    format!("<h3>By class</h3>\n{}", table(&["class", "precision", "recall", "F1", "support"], rows))
}

/// Figures of each class that no matrix shows.
pub(super) fn figures(title: &str, figures: &[Figure]) -> String {
    let headers: Vec<&str> =
        std::iter::once("class").chain(figures.iter().map(|figure| figure.name.as_str())).collect();
    let mut classes: Vec<&String> = vec![];
    for (class, _) in figures.iter().flat_map(|figure| &figure.by_class) {
        if !classes.contains(&class) {
            classes.push(class);
        }
    }
    let row = |class: &String| {
        let value = |figure: &Figure| figure.by_class.iter().find(|(own, _)| own == class).map(|(_, value)| *value);
        cell(class)
            + &figures.iter().map(|figure| cell(value(figure).map_or(String::new(), number))).collect::<String>()
    };
    let left = match classes.len().saturating_sub(ROWS) {
        0 => String::new(),
        more => format!("<p class=\"quiet\">{more} more classes are left out.</p>\n"),
    };
    let rows = classes.into_iter().take(ROWS).map(row);
    format!("<h2>{}, by class</h2>\n{}{left}", escaped(title), table(&headers, rows))
}

pub(super) fn samples(samples: &[Sample]) -> String {
    let mut html = String::from("<h2>Samples</h2>\n<div class=\"samples\">\n");
    for sample in samples {
        html += "<figure>";
        if let Some(picture) = &sample.picture {
            _ = write!(html, "<img alt=\"{}\" src=\"{}\">", escaped(&sample.input), picture.data_url());
        } else {
            _ = write!(html, "<pre>{}</pre>", escaped(&sample.input));
        }
        // Not by colour alone.
        let (class, mark) =
            if sample.prediction == sample.target { ("right", "\u{2713}") } else { ("wrong", "\u{2717}") };
        let sure = sample.confidence.map_or(String::new(), |share| format!(" {:.0} %", 100.0 * share));
        _ = write!(html, "<span class=\"{class}\">{mark} {}</span>", escaped(&sample.prediction));
        _ = write!(html, "<span class=\"quiet\">{sure}</span>");
        if sample.prediction != sample.target {
            _ = write!(html, "<br><span class=\"quiet\">is {}</span>", escaped(&sample.target));
        }
        html += "</figure>\n";
    }
    html + "</div>\n"
}

pub(super) fn profile(profile: &Profile) -> String {
    let all = profile.device_time().as_secs_f64();
    let kernels = profile.by_name();
    let told = match profile.clock {
        Clock::Missing => "this adapter has no timestamps, so kernels are only counted".to_string(),
        Clock::InsidePass => format!("kernels took {all:.2} s"),
        Clock::PassEach => {
            format!("kernels took {all:.2} s, each in a pass of its own, which this adapter's timestamps need")
        }
    };
    let mut html = format!(
        "<h2>Kernels</h2>\n<p class=\"quiet\">{} runs in {:.2} s; {told}.</p>\n",
        profile.runs,
        profile.elapsed.as_secs_f64()
    );
    let rows = kernels.iter().take(KERNELS).map(|kernel| {
        let total = kernel.total.as_secs_f64();
        let share = if all > 0.0 { total / all } else { 0.0 };
        let rate = |rate: Option<f64>| cell(rate.map_or("-".into(), |rate| format!("{rate:.2}")));
        format!("<td class=\"name\">{}</td>", escaped(&kernel.name))
            + &cell(kernel.calls.to_string())
            + &cell(format!("{:.1}", total * 1e3))
            + &format!(
                "<td><span class=\"bar\" style=\"width:{:.0}px\"></span>{:.1} %</td>",
                60.0 * share,
                100.0 * share
            )
            + &cell(format!("{:.1}", kernel.median.as_secs_f64() * 1e6))
            + &rate(kernel.gigabytes_per_second())
            + &rate(kernel.gigaflops())
    });
    html += &table(&["kernel", "calls", "total ms", "share", "median \u{b5}s", "GB/s", "GFLOP/s"], rows);
    if kernels.len() > KERNELS {
        _ = writeln!(html, "<p class=\"quiet\">The {KERNELS} that took longest, of {}.</p>", kernels.len());
    }
    let rows = profile.host.iter().map(|line| {
        let total = line.total.as_secs_f64();
        cell(line.phase.name())
            + &cell(line.calls.to_string())
            + &cell(format!("{:.1}", total * 1e3))
            + &cell(format!("{:.1}", total * 1e6 / profile.runs.max(1) as f64))
            + &text_cell(line.phase.meaning())
    });
    html += "<h3>Host</h3>\n";
    html + &table(&["phase", "calls", "total ms", "\u{b5}s a run", ""], rows)
}
