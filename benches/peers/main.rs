//! The workloads that other engines are measured on: the shapes, metrics and names of their benchmarks, one JSON line each,
//! so that the lines of several engines go into one table.
//!
//! ```text
//! cargo bench --bench peers                                         every workload, then a table
//! cargo bench --bench peers -- --only cnn,mlp --samples 7           those whose names begin so
//! cargo bench --bench peers -- --first-only --only gpt              the first step alone
//! cargo bench --bench peers -- --json > kiln.jsonl                  lines alone
//! cargo bench --bench peers -- --from kiln.jsonl --against burn.jsonl torch.jsonl
//! ```
//!
//! `KILN_DEVICE` chooses the device. Lines of several runs may be put in one file: the table shows the median of their
//! medians, so that engines can be measured in turn.
//!
//! What is counted: gemm 2 m n k operations; convolution 2 n c_out h w c_in 9, three times that with gradients; AdamW 28
//! bytes a parameter; the pointwise chain 8 bytes an element; softmax and normalisation, forward and backward, 20 bytes an
//! element (the gradient that comes in is all ones). A training step uploads a fresh batch and runs forward, backward and
//! AdamW (lr 1e-3, decay 1e-2); the loss is read every 10 steps. A sample lasts 0.15 s or one call, or ten steps.

mod bandwidth;
mod networks;
mod norms;
mod products;
mod recurrent;
mod report;
mod suite;
mod transformer;

use std::path::PathBuf;

use clap::Parser;

use suite::Suite;

/// Measures Kiln on the workloads of other engines' benchmarks.
#[derive(Parser)]
struct Args {
    /// Only workloads whose names begin with one of these
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Samples of a workload
    #[arg(long, default_value_t = 7)]
    samples: usize,
    /// Seconds that sampling one workload may take
    #[arg(long, default_value_t = 8.0)]
    budget: f64,
    /// Stops after the first step or call of each workload: what a start costs
    #[arg(long)]
    first_only: bool,
    /// Prints the JSON lines alone
    #[arg(long)]
    json: bool,
    /// Takes Kiln's lines from these files; runs nothing
    #[arg(long, num_args = 1..)]
    from: Vec<PathBuf>,
    /// Adds these engines' lines to the table, with the ratios
    #[arg(long, num_args = 1..)]
    against: Vec<PathBuf>,
    /// What `cargo bench` adds to every command line
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let lines = if args.from.is_empty() {
        let mut suite = Suite::new(args.only, args.samples, args.budget, args.first_only);
        suite.device_init();
        products::run(&mut suite);
        networks::run(&mut suite);
        bandwidth::run(&mut suite);
        norms::run(&mut suite);
        transformer::run(&mut suite);
        recurrent::run(&mut suite);
        suite.into_lines()
    } else {
        report::read(&args.from)?
    };
    if !args.json {
        print!("{}", report::tables(&lines, &report::read(&args.against)?));
    }
    Ok(())
}
