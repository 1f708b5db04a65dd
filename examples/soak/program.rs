//! The program under trial, its undisturbed runs, and the table of what was tried.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln::rng::Philox;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longest time that any one run may take before it counts as hung.
const HUNG: Duration = Duration::from_secs(600);

/// Kinds of run: what is in the state differs.
pub const KINDS: [&str; 4] = [
    "--seed 1",
    "--seed 2 --optimizer sgd --lr 0.02",
    "--seed 3 --precision mixed",
    "--seed 4 --clip 0.5 --dropout 0.4",
];

/// What all trials share.
pub struct Soak {
    pub rng: Philox,
    pub folder: PathBuf,
    program: PathBuf,
    /// Weights of undisturbed runs, by their options.
    whole: HashMap<String, (Vec<u8>, Duration)>,
    next: u64,
}

/// A run under way.
pub struct Run {
    child: Child,
    log: PathBuf,
    ended: bool,
}

impl Soak {
    pub fn new(rng: Philox, program: &str) -> Result<Soak> {
        let program = std::env::current_exe()?.with_file_name(program);
        if !program.exists() {
            bail!("{} is not there: build the example of this name", program.display());
        }
        let folder = std::env::temp_dir().join(format!("kiln-soak-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        Ok(Soak { rng, folder, program, whole: HashMap::new(), next: 0 })
    }

    /// A folder of its own.
    pub fn fresh(&mut self) -> Result<PathBuf> {
        self.next += 1;
        let folder = self.folder.join(self.next.to_string());
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// A number below one.
    pub fn chance(&mut self) -> f64 {
        self.rng.uniform()
    }

    /// The program alone.
    pub fn bare(&self) -> Command {
        Command::new(&self.program)
    }

    /// The program with these options.
    pub fn command(&self, kind: &str, out: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--limit", "600", "--batch-size", "16", "--epochs", "6"]).args(kind.split(' '));
        command.arg("--out").arg(out).args(more).env("RUST_BACKTRACE", "0");
        command
    }

    /// Starts a command; what it says goes to a file beside `log`.
    pub fn start(&self, mut command: Command, log: &Path) -> Result<Run> {
        let file = fs::File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        Ok(Run { child: command.spawn().context("the program does not start")?, log: log.into(), ended: false })
    }

    /// Weights of a run that nobody disturbs, and how long it takes.
    pub fn whole(&mut self, kind: &str) -> Result<(Vec<u8>, Duration)> {
        if let Some(known) = self.whole.get(kind) {
            return Ok(known.clone());
        }
        let folder = self.fresh()?;
        let started = Instant::now();
        let mut run = self.start(self.command(kind, &folder.join("out"), &[]), &folder.join("log"))?;
        if !run.wait()?.success() {
            bail!("a run that nobody disturbs fails: {}", run.said());
        }
        let weights = fs::read(folder.join("out"))?;
        println!("soak: undisturbed ({kind}): {:.1} s", started.elapsed().as_secs_f64());
        self.whole.insert(kind.into(), (weights.clone(), started.elapsed()));
        Ok((weights, started.elapsed()))
    }

    /// True if the weights at `out` are those of an undisturbed run.
    pub fn are_whole(&mut self, kind: &str, out: &Path) -> Result<bool> {
        let whole = self.whole(kind)?.0;
        Ok(fs::read(out).is_ok_and(|found| found == whole))
    }
}

impl Drop for Soak {
    fn drop(&mut self) {
        // What is left of it is for whoever looks after a failure.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

impl Run {
    pub fn has_ended(&mut self) -> Result<bool> {
        self.ended = self.ended || self.child.try_wait()?.is_some();
        Ok(self.ended)
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended by itself meanwhile.
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// Waits for its end; one that hangs is killed and an error.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                return Ok(status);
            }
            if started.elapsed() > HUNG {
                self.signal(Signal::SIGKILL);
                bail!("a run hangs: {}", self.said());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it and those before it with the same log have said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// What was tried, and what survived.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, u64, u64)>,
    failures: Vec<String>,
}

impl Table {
    /// Counts a trial; `Err` says why it did not survive.
    pub fn note(&mut self, what: &str, outcome: Result<(), String>) {
        let place = self.rows.iter().position(|(name, ..)| name == what).unwrap_or_else(|| {
            self.rows.push((what.into(), 0, 0));
            self.rows.len() - 1
        });
        self.rows[place].1 += 1;
        match outcome {
            Ok(()) => self.rows[place].2 += 1,
            Err(why) => {
                println!("soak: {what}: {why}");
                let failure = format!("{what}: {why}");
                if !self.failures.contains(&failure) {
                    self.failures.push(failure);
                }
            }
        }
    }

    /// An error if anything did not survive.
    pub fn verdict(&self) -> Result<()> {
        if self.failures.is_empty() { Ok(()) } else { bail!("not survived:\n{}", self.failures.join("\n")) }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = self.rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
        writeln!(f, "{:wide$}  {:>8}  {:>8}", "what", "tried", "survived")?;
        let lines: Vec<String> =
            self.rows.iter().map(|(name, tried, survived)| format!("{name:wide$}  {tried:8}  {survived:8}")).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// `Ok` if `is_so`, else what is wrong.
pub fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}
