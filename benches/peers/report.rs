//! Lines into tables: medians, ratios, first steps, memory.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::suite::median;

/// The JSON lines of files; other lines are left out.
pub fn read(files: &[PathBuf]) -> Result<Vec<Value>> {
    let mut lines = vec![];
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        for (number, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('{')) {
            let line = serde_json::from_str(line);
            lines.push(line.with_context(|| format!("{} line {} is no JSON", file.display(), number + 1))?);
        }
    }
    Ok(lines)
}

/// The lines of one engine.
struct Peer<'a> {
    name: &'a str,
    lines: Vec<&'a Value>,
}

impl Peer<'_> {
    /// The median over runs of what `field` picks.
    fn value(&self, workload: &str, field: fn(&Value) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> =
            self.lines.iter().filter(|line| line["workload"] == workload).filter_map(|line| field(line)).collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| median(&values))
    }

    fn failed(&self, workload: &str) -> bool {
        self.lines.iter().any(|line| line["workload"] == workload && !line["error"].is_null())
    }
}

/// Engines in the order of their first lines.
fn peers(lines: &[Value]) -> Vec<Peer<'_>> {
    let mut peers: Vec<Peer<'_>> = vec![];
    for line in lines {
        let name = line["peer"].as_str().unwrap_or("?");
        match peers.iter_mut().find(|peer| peer.name == name) {
            Some(peer) => peer.lines.push(line),
            None => peers.push(Peer { name, lines: vec![line] }),
        }
    }
    peers
}

/// A quantity with a table of its own.
struct Quantity {
    title: &'static str,
    field: fn(&Value) -> Option<f64>,
    /// Its unit, where it has the same one in every workload.
    unit: Option<&'static str>,
    higher_is_better: bool,
}

const QUANTITIES: [Quantity; 3] = [
    Quantity {
        title: "Steady state (higher is better)",
        field: |line| line["median"].as_f64(),
        unit: None,
        higher_is_better: true,
    },
    Quantity {
        title: "First step or call (lower is better)",
        field: |line| line["first_step_s"].as_f64().or(line["first_call_s"].as_f64()),
        unit: Some("s"),
        higher_is_better: false,
    },
    Quantity {
        title: "Peak resident size of the process so far (lower is better)",
        field: |line| line["peak_rss_mib"].as_f64(),
        unit: Some("MiB"),
        higher_is_better: false,
    },
];

/// A table of each quantity: Kiln, then each other engine with how many times better Kiln is; and what a step takes.
pub fn tables(kiln: &[Value], others: &[Value]) -> String {
    let mut workloads: Vec<&str> = vec![];
    for name in kiln.iter().filter_map(|line| line["workload"].as_str()) {
        if !workloads.contains(&name) && name != "device_init" {
            workloads.push(name);
        }
    }
    let own = Peer { name: "kiln", lines: kiln.iter().collect() };
    let others = peers(others);
    let mut text = String::new();
    for quantity in &QUANTITIES {
        text += &table(quantity, &workloads, &own, &others);
    }
    text += "\nA step or call of Kiln\n\n| workload | dispatches | peak device MiB |\n| --- | --- | --- |\n";
    for workload in workloads {
        let cell = |field| own.value(workload, field).map_or("-".into(), number);
        let dispatches = cell(|line| line["dispatches"].as_f64());
        let memory = cell(|line| line["peak_device_mib"].as_f64());
        let _ = writeln!(text, "| {workload} | {dispatches} | {memory} |");
    }
    text
}

fn table(quantity: &Quantity, workloads: &[&str], kiln: &Peer<'_>, others: &[Peer<'_>]) -> String {
    let mut text = format!("\n{}\n\n| workload | unit | kiln |", quantity.title);
    others.iter().for_each(|peer| text += &format!(" {} | ratio |", peer.name));
    text += &format!("\n| --- | --- | --- |{}\n", " --- | --- |".repeat(others.len()));
    let mut logarithms = vec![vec![]; others.len()];
    for workload in workloads {
        let metric = kiln.lines.iter().find(|line| line["workload"] == *workload && line["metric"].is_string());
        let unit = quantity.unit.or(metric.and_then(|line| line["metric"].as_str())).unwrap_or("-");
        let own = kiln.value(workload, quantity.field);
        let _ = write!(text, "| {workload} | {unit} | {} |", cell(kiln, workload, own));
        for (peer, logarithms) in others.iter().zip(&mut logarithms) {
            let theirs = peer.value(workload, quantity.field);
            let ratio = own.zip(theirs).map(|(own, theirs)| match quantity.higher_is_better {
                true => own / theirs,
                false => theirs / own,
            });
            logarithms.extend(ratio.map(f64::ln));
            let ratio = ratio.map_or("-".into(), |ratio| format!("{}x", number(ratio)));
            let _ = write!(text, " {} | {ratio} |", cell(peer, workload, theirs));
        }
        text.push('\n');
    }
    if !others.is_empty() {
        text += "| geometric mean | | |";
        for logarithms in &logarithms {
            let mean = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
            let _ = write!(text, " {} of {} | {}x |", logarithms.len(), workloads.len(), number(mean.exp()));
        }
        text.push('\n');
    }
    text
}

fn cell(peer: &Peer<'_>, workload: &str, value: Option<f64>) -> String {
    match value {
        Some(value) => number(value),
        None if peer.failed(workload) => "error".into(),
        None => "-".into(),
    }
}

/// Four digits.
fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let digits = 3 - (value.abs().max(1e-9).log10().floor() as i32).clamp(-4, 3);
    format!("{value:.*}", digits as usize)
}
