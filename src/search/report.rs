//! A study as one page of HTML: what was best, how it got there, which settings matter, every trial.
//!
//! The page stands alone: no script, no font, no other file. It follows the reader's light or dark setting.

use std::fmt::Write;
use std::path::Path;

use super::parallel::parallel;
use super::point::short;
use super::record::{Record, State};
use super::study::Study;
use crate::error::Result;
use crate::file;
use crate::plot::page::{page, table_of};
use crate::plot::{Chart, escaped};

/// Trials in the table at most: the best.
const ROWS: usize = 1000;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--ground:#fff;--line:#d8dee4;--mark:#0063b2}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--ground:#0d1117;--line:#30363d;--mark:#6cb6ff}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--ground);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
table{border-collapse:collapse;font-size:13px}
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
td.number{text-align:right;font-variant-numeric:tabular-nums}
tr.best{font-weight:600}
.wide{overflow-x:auto}
.parallel text{font:12px system-ui,sans-serif;fill:var(--ink)}
.parallel path{fill:none;stroke:var(--mark)}
.parallel .axis{stroke:var(--ink)}
.parallel .best{stroke-width:3}
.bars text{font:13px system-ui,sans-serif;fill:var(--ink)}.bars rect{fill:var(--mark)}
";

impl Study {
    /// The page. Titles of lines in it name the trials.
    pub fn report(&self, title: &str) -> String {
        let mut body = String::new();
        self.summary(&mut body);
        _ = writeln!(body, "<h2>Values</h2>\n{}", self.course());
        _ = writeln!(body, "<h2>Settings</h2>\n<div class=\"wide\">\n{}</div>", parallel(self));
        let shares = self.importance();
        if !shares.is_empty() {
            _ = writeln!(body, "<h2>Importance</h2>\n{}", bars(&shares));
        }
        self.table(&mut body);
        page(title, STYLE, &body)
    }

    /// Writes [`Study::report`] to a file, which is replaced as a whole.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn save_report(&self, path: impl AsRef<Path>, title: &str) -> Result<()> {
        file::write_text(path.as_ref(), &self.report(title))
    }

    fn summary(&self, page: &mut String) {
        let count = |name: &str| self.trials().iter().filter(|trial| trial.state.name() == name).count();
        let states = ["complete", "pruned", "failed", "killed", "running"].map(|name| (name, count(name)));
        let counts: Vec<String> =
            states.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{count} {name}")).collect();
        let counts = if counts.is_empty() { "none".into() } else { counts.join(", ") };
        _ = writeln!(page, "<p>Trials: {counts}. Seed {}, to {}.</p>", self.config.seed, self.config.goal.name());
        if let Some(best) = self.best() {
            let value = best.value.map(short).unwrap_or_default();
            let point = escaped(&best.point.to_string());
            _ = writeln!(page, "<p>Best: {value}, trial {}: <code>{point}</code></p>", best.number);
        }
    }

    /// The value of each complete trial, and the best so far.
    fn course(&self) -> String {
        let goal = self.config.goal;
        let losses = self.trials().iter().filter_map(|trial| Some((trial.number as f64, trial.loss(goal)?)));
        let losses: Vec<(f64, f64)> = losses.collect();
        let mut least = f64::INFINITY;
        let best = losses.iter().map(|&(number, loss)| {
            least = least.min(loss);
            (number, goal.loss(least))
        });
        let best: Vec<(f64, f64)> = best.collect();
        let values = losses.iter().map(|&(number, loss)| (number, goal.loss(loss)));
        Chart::new("").axes("trial", "value").line("value", values).line("best so far", best).svg()
    }

    fn table(&self, page: &mut String) {
        let goal = self.config.goal;
        let rank = |trial: &Record| {
            let loss = trial.value.map_or(f64::INFINITY, |value| goal.loss(value));
            (u8::from(trial.state != State::Complete), loss)
        };
        let mut trials: Vec<&Record> = self.trials().iter().collect();
        trials.sort_by(|one, other| {
            let (one, other) = (rank(one), rank(other));
            one.0.cmp(&other.0).then(one.1.total_cmp(&other.1))
        });
        let mut notes: Vec<&str> = trials.iter().flat_map(|trial| trial.notes.keys().map(String::as_str)).collect();
        notes.sort_unstable();
        notes.dedup();
        let left_out = trials.len().saturating_sub(ROWS);
        let parameters = self.space.parameters().iter();
        let mut headers = vec!["trial", "value"];
        headers.extend(parameters.clone().map(|parameter| parameter.name.as_str()).chain(notes.iter().copied()));
        headers.extend(["steps", "seconds", "state"]);
        let best = self.best().map(|best| best.number);
        let rows = trials.into_iter().take(ROWS).map(|trial| {
            let mut row = String::new();
            let mut cell = |text: Option<String>| {
                _ = write!(row, "<td class=\"number\">{}</td>", escaped(&text.unwrap_or_default()));
            };
            cell(Some(trial.number.to_string()));
            cell(trial.value.map(short));
            parameters.clone().for_each(|parameter| cell(trial.point.get(&parameter.name).map(ToString::to_string)));
            notes.iter().for_each(|&name| cell(trial.notes.get(name).copied().map(short)));
            cell(trial.reports.last().map(|report| report.0.to_string()));
            cell(trial.seconds.map(|seconds| format!("{seconds:.1}")));
            let why = if let State::Failed(why) = &trial.state { format!(": {why}") } else { String::new() };
            let class = if Some(trial.number) == best { " class=\"best\"" } else { "" };
            format!("<tr{class}>{row}<td>{}</td></tr>\n", escaped(&format!("{}{why}", trial.state.name())))
        });
        _ = writeln!(page, "<h2>Trials</h2>\n{}", table_of(&headers, rows));
        if left_out > 0 {
            _ = writeln!(page, "<p>The table has the best {ROWS} trials; {left_out} more are in the study.</p>");
        }
    }
}

/// A bar a parameter.
fn bars(shares: &[(&str, f64)]) -> String {
    let height = 26 * shares.len() + 6;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 {height}\" class=\"bars\" role=\"img\">\n\
         <title>How much each parameter decides</title>\n"
    );
    for (place, (name, share)) in shares.iter().enumerate() {
        let y = 26 * place;
        _ = writeln!(
            svg,
            "<text text-anchor=\"end\" x=\"200\" y=\"{}\">{}</text>\n\
             <rect x=\"210\" y=\"{}\" width=\"{:.1}\" height=\"16\"/>\n<text x=\"{:.1}\" y=\"{}\">{:.0} %</text>",
            y + 19,
            escaped(name),
            y + 6,
            430.0 * share,
            218.0 + 430.0 * share,
            y + 19,
            100.0 * share
        );
    }
    svg + "</svg>\n"
}
