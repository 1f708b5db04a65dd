//! What a GPU makes of Kiln, in a few minutes: the rates of its kernels, the times of training steps, and whether a sample of
//! the ops agrees with the reference. One command to run on a GPU and to send in.
//!
//! `cargo run --release --example gpu_report -- --json report.json --minutes 5`. The program needs no other file: a binary
//! that was built elsewhere does.

#[path = "../common/parity.rs"]
mod parity;
#[path = "../common/program.rs"]
mod program;

mod agreement;
mod kernels;
mod measure;
mod steps;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use kiln::prelude::*;
use measure::Report;
use serde_json::{Value, json};

/// Measures what a device reaches, and checks that it computes what it should.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    /// Minutes for all of it; what has no time left is named in the end.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Cases of ops to compare with the reference.
    #[arg(long, value_enum, default_value_t = Parity::Sample)]
    parity: Parity,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Parity {
    None,
    Sample,
    All,
}

/// A part of the report, with its share of the time; the most valuable come first.
type Section = (&'static str, f64, fn(&mut Report) -> Result<()>);

const SECTIONS: [Section; 8] = [
    ("copy", 0.04, kernels::copy),
    ("products", 0.16, kernels::products),
    ("convolutions", 0.18, kernels::convolutions),
    ("steps", 0.24, steps::all),
    ("memory", 0.10, kernels::memory),
    ("attention", 0.06, kernels::attention),
    ("half", 0.06, kernels::half_products),
    ("parity", 0.16, agreement::sample),
];

/// What the adapter says that it can do.
fn limits(device: &Device) -> Result<Value> {
    let mut known = None;
    if !device.is_cpu() {
        Device::named_as_if(device.name(), |capabilities| known = Some(capabilities.clone()))?;
    }
    Ok(known.map_or(Value::Null, |it| {
        json!({
            "f16": it.f16, "subgroup": it.subgroup, "matrices": it.cooperative, "storage_buffers": it.storage_buffers,
            "binding_bytes": it.binding_bytes,
        })
    }))
}

fn main() -> Result<()> {
    let Args { common: args, minutes, parity } = Args::parse();
    ensure!(minutes > 0.0, "--minutes {minutes}: give it some time");
    let began = Instant::now();
    let device = args.start()?;
    let opened = began.elapsed().as_secs_f64();
    let limits = limits(&device)?;
    println!("limits   {limits}");
    let whole = Duration::from_secs_f64(60.0 * args.pick(minutes, minutes.min(1.0)));
    // Opening is not what is measured.
    let measured_from = Instant::now();
    let mut report = Report::new(&device, args.quick, parity == Parity::All);
    let mut spent_shares = 0.0;
    let mut errors = vec![];
    for (name, share, run) in SECTIONS {
        spent_shares += share;
        if name == "parity" && parity == Parity::None {
            continue;
        }
        // A section may use what those before it left.
        let until = if name == "parity" && parity == Parity::All {
            None
        } else {
            Some(measured_from + whole.mul_f64(spent_shares))
        };
        report.begin(name, until);
        if let Err(error) = run(&mut report) {
            eprintln!("{name}: {error:#}");
            errors.push(json!({ "section": name, "error": format!("{error:#}") }));
        }
    }
    let info = device.info();
    let figures = json!({
        "device": { "name": info.name, "backend": info.backend, "kind": info.kind, "driver": info.driver },
        "kiln": env!("CARGO_PKG_VERSION"), "limits": limits, "opened_s": opened, "lines": report.lines,
        "left_out": report.left_out, "warnings": device.warnings(), "errors": errors,
    });
    if !report.left_out.is_empty() {
        println!("no time  {}", report.left_out.join(", "));
    }
    let wrong = report.disagreements;
    // The lines were printed as they were made; here their number.
    let count = report.lines.len();
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
        println!("wrote    {}", path.display());
    }
    println!("reached  {count} lines in {:.0} s", began.elapsed().as_secs_f64());
    ensure!(errors.is_empty(), "{} sections failed", errors.len());
    ensure!(wrong == 0, "{wrong} cases disagree with the reference");
    Ok(())
}
