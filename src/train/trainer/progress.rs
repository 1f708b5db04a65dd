//! What a person sees of a fit: bars on a terminal, plain lines elsewhere.

use std::io::Write;
use std::time::Duration;

use super::bar::{Bar, Stream};
use super::callback::{Callback, Event, Run};
use super::history::Record;
use crate::clock::Instant;
use crate::error::Result;

/// Columns that lines may take.
const WIDTH: usize = 80;
/// How often a line tells where an epoch is, where there is no bar.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows how a fit goes: on a terminal a bar for each epoch with loss, rate and the time left, elsewhere a line every ten
/// seconds; after each epoch a line with its numbers, of training / of validation. Bars need the feature `progress`;
/// without it there are lines on a terminal too.
///
/// ```text
/// epoch  3/20  loss 0.1534 / 0.1710  accuracy 0.9631 / 0.9528  lr 2.9e-3  1.2 s
/// epoch  4/20 [=======>            ]  9/23  loss 0.1321  1180/s  0:21 left
/// ```
///
/// Lines have at most 80 columns; further numbers go on in the next one.
pub struct Progress {
    bar: Option<Bar>,
    lines: Option<Box<dyn Write + Send>>,
    /// Means of the last stretch.
    loss: Option<(String, f64)>,
    /// When the fit and the epoch began, and what had been done then.
    fit: (Instant, u64),
    epoch: Instant,
    spoken: Instant,
}

impl Progress {
    /// On stderr.
    #[must_use]
    pub fn new() -> Progress {
        match Bar::on(Stream::Err) {
            None => Progress::plain(std::io::stderr()),
            bar => Progress::with(bar, None),
        }
    }

    /// On stdout, for a program that prints its results there.
    #[must_use]
    pub fn on_stdout() -> Progress {
        match Bar::on(Stream::Out) {
            None => Progress::plain(std::io::stdout()),
            bar => Progress::with(bar, None),
        }
    }

    /// Plain lines, to anything that takes text. What cannot be written is lost: it ends no run.
    #[must_use]
    pub fn plain(to: impl Write + Send + 'static) -> Progress {
        Progress::with(None, Some(Box::new(to)))
    }

    fn with(bar: Option<Bar>, lines: Option<Box<dyn Write + Send>>) -> Progress {
        let now = Instant::now();
        Progress { bar, lines, loss: None, fit: (now, 0), epoch: now, spoken: now }
    }

    fn say(&mut self, text: &str) {
        match (&self.bar, &mut self.lines) {
            (Some(bar), _) => bar.line(text),
            (None, Some(lines)) => drop(writeln!(lines, "{text}")),
            (None, None) => {}
        }
    }

    /// A line for an epoch.
    fn tell(&mut self, record: &Record, run: &Run<'_>) {
        let mut told = pairs(record);
        told.push(format!("{:.1} s", self.epoch.elapsed().as_secs_f64()));
        self.say(&lines(&title(run), &told));
    }

    /// What stands behind the bar: loss, items a second, the time that is left.
    fn message(&self, run: &Run<'_>) -> String {
        let (started, before) = self.fit;
        let spent = started.elapsed().as_secs_f64();
        let mut text = self.loss.as_ref().map_or(String::new(), |(name, loss)| format!("{name} {loss:.4}  "));
        if run.items() > 0 && spent > 0.0 {
            text += &format!("{:.0}/s", run.items() as f64 / spent);
        }
        let (done, all) = (batches_done(run), batches_in_all(run));
        if let Some(all) = all
            && done > before
        {
            let left = spent / (done - before) as f64 * all.saturating_sub(done) as f64;
            text += &format!("  {} left", clock(left));
        }
        text
    }
}

impl Default for Progress {
    fn default() -> Self {
        Progress::new()
    }
}

impl Callback for Progress {
    fn is_of_first_rank(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        "progress".into()
    }

    fn on(&mut self, event: Event<'_>, run: &mut Run<'_>) -> Result<()> {
        match event {
            Event::FitStart { resumed } => {
                let now = Instant::now();
                (self.fit, self.epoch, self.spoken) = ((now, batches_done(run)), now, now);
                if resumed {
                    self.say(&format!("resumed  after {} steps", run.step()));
                }
            }
            Event::Changed { name, before, now } => self.say(&format!("changed  {name} from {before} to {now}")),
            Event::EpochStart => self.epoch = Instant::now(),
            Event::StepEnd => match &self.bar {
                Some(bar) => {
                    bar.title(title(run));
                    bar.show(run.batch(), run.batches_per_epoch(), self.message(run));
                }
                None if self.spoken.elapsed() >= PATIENCE => {
                    self.spoken = Instant::now();
                    let (at, of) = (run.batch(), run.batches_per_epoch());
                    let text = format!("{}  batch {at}/{of}  {}", title(run), self.message(run));
                    self.say(&text);
                }
                None => {}
            },
            Event::Logged(record) => {
                let is_loss = |(name, _): &(&String, &f64)| *name == "loss" || name.ends_with("_loss");
                self.loss = record.values.iter().find(is_loss).map(|(name, loss)| (name.clone(), *loss));
            }
            Event::ValidationStep { done, of } => {
                if let Some(bar) = &self.bar {
                    bar.show(done, of, "validation".into());
                }
            }
            // That of the end of an epoch is told with the epoch.
            Event::Validated(record) if run.batch() < run.batches_per_epoch() => {
                let text = lines(&format!("{}  step {}", title(run), record.step), &pairs(record));
                self.say(&text);
            }
            Event::EpochEnd(record) => {
                self.tell(record, run);
                self.spoken = Instant::now();
            }
            Event::Skipped(error) => self.say(&format!("skipped: {error}")),
            Event::Warning(text) => {
                self.say(&format!("warning: {text}"));
                run.warning_shown();
            }
            Event::FitEnd(history) => {
                if let Some(bar) = &self.bar {
                    bar.clear();
                }
                if let Some(record) = &history.unfinished {
                    self.tell(record, run);
                }
            }
            Event::Failed(_) => {
                if let Some(bar) = &self.bar {
                    bar.clear();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// `epoch  3/20`.
fn title(run: &Run<'_>) -> String {
    let number = run.epoch() + 1;
    match run.epochs() {
        Some(all) => format!("epoch {number:width$}/{all}", width = all.to_string().len()),
        None => format!("epoch {number}"),
    }
}

fn batches_done(run: &Run<'_>) -> u64 {
    run.epoch() * run.batches_per_epoch() + run.batch()
}

/// Batches of the whole run, if a number of epochs ends it.
fn batches_in_all(run: &Run<'_>) -> Option<u64> {
    run.epochs().map(|epochs| epochs.saturating_mul(run.batches_per_epoch()))
}

/// `1:02` or `1:02:03`.
fn clock(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// Numbers of a record, those of training and of validation together; rates last.
fn pairs(record: &Record) -> Vec<String> {
    let figure = |x: f64| match x.abs() {
        size if size != 0.0 && !(1e-3..1e5).contains(&size) => format!("{x:.2e}"),
        _ => format!("{x:.4}"),
    };
    let is_rate = |name: &str| name == "lr" || name.ends_with("_lr");
    let values = &record.values;
    let mut told = vec![];
    for (name, value) in values.iter().filter(|(name, _)| !name.starts_with("val_") && !is_rate(name)) {
        let of_validation = values.get(&format!("val_{name}")).map(|own| format!(" / {}", figure(*own)));
        told.push(format!("{name} {}{}", figure(*value), of_validation.unwrap_or_default()));
    }
    for (name, value) in values {
        if name.strip_prefix("val_").is_some_and(|bare| !values.contains_key(bare)) {
            told.push(format!("{name} {}", figure(*value)));
        }
    }
    told.extend(values.iter().filter(|(name, _)| is_rate(name)).map(|(name, value)| format!("{name} {value:.1e}")));
    told
}

/// Words behind a title, in lines of at most [`WIDTH`] columns as long as no word is longer.
fn lines(title: &str, words: &[String]) -> String {
    let mut text = title.to_string();
    let (mut width, indent) = (title.chars().count(), title.chars().count());
    for word in words {
        let own = word.chars().count();
        if width > indent && width + 2 + own > WIDTH {
            text += &format!("\n{:indent$}", "");
            width = indent;
        }
        text += &format!("  {word}");
        width += 2 + own;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_at_most_eighty_columns_and_no_number_is_left_out() {
        let names = ["accuracy", "loss", "top_5_accuracy", "val_accuracy", "val_loss", "val_top_5_accuracy", "lr"];
        let values = names.iter().map(|name| (name.to_string(), 0.9812)).collect();
        let text = lines("epoch  3/20", &pairs(&Record { values, ..Record::default() }));
        assert!(text.lines().count() == 2 && text.lines().all(|line| line.len() <= 80), "{text}");
        assert!(text.contains("accuracy 0.9812 / 0.9812") && text.contains("lr 9.8e-1"), "{text}");
    }

    #[test]
    fn times_are_told_as_on_a_clock() {
        assert_eq!([0.4, 61.6, 3723.0].map(clock), ["0:00", "1:02", "1:02:03"]);
    }
}
