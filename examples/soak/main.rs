//! Kills, fills disks, shares paths and takes memory away while `train_cnn` trains, and compares what it ends with, bit for
//! bit, with runs that nobody disturbed; with `--program image_folder` that one is killed. `make soak MINUTES=15` builds and runs it; it ends with a table of what was tried
//! and what survived, and fails on any difference.

#[cfg(unix)]
mod folder;
#[cfg(unix)]
mod kills;
#[cfg(unix)]
mod limits;
#[cfg(unix)]
#[path = "../common/pipe.rs"]
mod pipe;
#[cfg(unix)]
mod program;
#[cfg(unix)]
mod shared;

#[cfg(unix)]
fn main() -> anyhow::Result<()> {
    use std::time::{Duration, Instant};

    use clap::Parser;
    use kiln::rng::Philox;
    use program::{Soak, Table};

    /// Disturbs training runs and compares their bits.
    #[derive(Parser)]
    struct Args {
        /// Minutes that it may take in all.
        #[arg(long, default_value_t = 15.0)]
        minutes: f64,
        /// Seed of what is done when [default: the clock].
        #[arg(long)]
        seed: Option<u64>,
        /// What is disturbed: image_folder is killed alone, so many times, however long that takes.
        #[arg(long, default_value = "train_cnn", value_parser = ["train_cnn", "image_folder"])]
        program: String,
        /// Kills of image_folder.
        #[arg(long, default_value_t = 50)]
        kills: u64,
    }
    pipe::end_with_reader();
    let args = Args::parse();
    let clock = || std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_millis() as u64);
    let seed = args.seed.unwrap_or_else(clock);
    let mut soak = Soak::new(Philox::new(seed, 0), &args.program)?;
    let mut table = Table::default();
    let started = Instant::now();
    if args.program == "image_folder" {
        println!("soak: {} kills, seed {seed}", args.kills);
        folder::kills(&mut soak, &mut table, args.kills)?;
        println!("\n{table}\n\n{:.1} minutes", started.elapsed().as_secs_f64() / 60.0);
        return table.verdict();
    }
    println!("soak: {} minutes, seed {seed}", args.minutes);
    let until = |share: f64| started + Duration::from_secs_f64(60.0 * args.minutes.max(0.0) * share);
    // The disk first, for it takes what it takes; then what can be repeated until its time is over.
    limits::full_disk(&mut soak, &mut table)?;
    limits::memory(&mut soak, &mut table, until(0.25))?;
    shared::two_processes(&mut soak, &mut table, until(0.45))?;
    kills::kills(&mut soak, &mut table, until(0.97))?;
    println!("\n{table}\n\n{:.1} minutes", started.elapsed().as_secs_f64() / 60.0);
    table.verdict()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("soak: signals and limits are those of Unix; there is nothing to try here");
    std::process::exit(1);
}
