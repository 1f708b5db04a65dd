//! How a fit went: a line for each epoch, and curves over its steps.

// Each program uses its part.
#![allow(dead_code)]

use kiln::plot::Chart;
use kiln::train::{Event, History, Run};

/// Prints the numbers of each epoch. A callback of the trainer.
pub fn tell(event: Event<'_>, run: &mut Run<'_>) -> kiln::Result<()> {
    if let Event::EpochEnd(record) = event {
        let shown = record.values.iter().filter(|(name, _)| !name.ends_with("lr"));
        let numbers: Vec<String> = shown.map(|(name, value)| format!("{name} {value:.4}")).collect();
        println!("step {:6}  {}  {:.0} s", run.step(), numbers.join("  "), record.seconds);
    }
    Ok(())
}

/// Prints the loss of every few steps, for fits whose epochs take minutes. A callback of the trainer.
pub fn tell_steps(event: Event<'_>, _: &mut Run<'_>) -> kiln::Result<()> {
    if let Event::Logged(record) = event {
        let loss = record.get("loss").unwrap_or(f64::NAN);
        println!("step {:6}  loss {loss:.4}  {:.0} s", record.step, record.seconds);
    }
    Ok(())
}

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
