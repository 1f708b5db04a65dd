//! Files of a run: trying them before it, checkpoints within it, and what a checkpoint must fit.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use kiln::data::{Loader, Position, Splits};
use kiln::prelude::{Error, Optimizer, ParamStore};
use kiln::train::checkpoint::Checkpoint;
use serde_json::{Map, Value, json};

use crate::args::{Args, Every};

/// Key of the settings in a checkpoint.
const SETTINGS: &str = "train_cnn";

/// Makes sure that everything the run is to write can be written, before it begins.
pub fn try_outputs(args: &Args) -> Result<()> {
    let outputs =
        [Some(&args.out), args.checkpoint.as_ref(), args.json.as_ref(), args.logits.as_ref(), args.trace.as_ref()];
    for path in outputs.into_iter().flatten() {
        try_output(path)?;
    }
    Ok(())
}

fn try_output(path: &Path) -> Result<()> {
    let refused = |path: &Path, action| {
        let path = path.to_path_buf();
        move |error| Error::Io { path, action, source: Arc::new(error) }
    };
    let Some(name) = path.file_name() else { bail!("{}: it does not name a file", path.display()) };
    if path.is_dir() {
        bail!("{}: it is a folder: name a file in it", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = fs::create_dir_all(folder).map_err(refused(folder, "make"));
    made.with_context(|| format!("{}: its folder cannot be made", path.display()))?;
    match fs::metadata(path) {
        // What is there stays as it is until there is something better; pipes and devices are left alone.
        Ok(found) if found.is_file() => {
            File::options().append(true).open(path).map_err(refused(path, "write"))?;
        }
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    let mut probe = name.to_os_string();
    probe.push(format!(".{}.probe", std::process::id()));
    let probe = folder.join(probe);
    let tried = File::create_new(&probe).and_then(|mut file| file.write_all(&[0; 4096]));
    // It may not be there.
    let _ = fs::remove_file(&probe);
    Ok(tried.map_err(refused(path, "write"))?)
}

/// What a run is saved with: the first list must be the same when it goes on, the second may be changed.
fn settings(args: &Args, splits: &Splits) -> [Vec<(&'static str, String)>; 2] {
    let [c, h, w] = splits.train.shape();
    let fixed = vec![
        ("data set", format!("{} of {c}x{h}x{w}", args.data_name())),
        ("training images", splits.train.len().to_string()),
        ("batch size", args.batch_size.to_string()),
        ("seed", args.seed.to_string()),
        ("optimizer", args.optimizer_name()),
        ("precision", args.precision_name()),
    ];
    let free = vec![
        ("epochs", args.epochs().to_string()),
        ("learning rate", args.lr.to_string()),
        ("weight decay", args.weight_decay.to_string()),
        ("momentum", args.momentum.to_string()),
        ("clip", args.clip.map_or("none".into(), |clip| clip.to_string())),
        ("dropout", args.dropout.to_string()),
    ];
    [fixed, free]
}

/// Loads the checkpoint that the run goes on from; where the next batch is.
pub fn resume(
    path: &Path,
    args: &Args,
    splits: &Splits,
    params: &ParamStore,
    optimizer: &mut dyn Optimizer,
) -> Result<Position> {
    // Before anything is loaded: of two settings the user is told more than of what they change in a model.
    let file = Checkpoint::open(path)?;
    let saved = file.value("metadata").and_then(|all| all.get(SETTINGS));
    let [fixed, free] = settings(args, splits);
    let differs = |(name, now): (&'static str, String)| {
        let before = saved?.get(name)?.as_str()?;
        (before != now).then(|| (name, before.to_string(), now))
    };
    let wrong: Vec<_> = fixed.into_iter().filter_map(differs).collect();
    if !wrong.is_empty() {
        let list: Vec<String> =
            wrong.iter().map(|(name, before, now)| format!("{name} {before} there, {now} here")).collect();
        bail!("{}: it is of another run: {}; give the options of that run", path.display(), list.join("; "));
    }
    let (mut position, mut rest) = (Position::default(), Value::Null);
    let mut load = file.load().store("model", params).optimizer("model", &mut *optimizer);
    load = load.position("train", &mut position);
    if saved.is_some() {
        load = load.value("metadata", &mut rest);
    }
    load.finish()?;
    println!("resumed  {} after {} steps", path.display(), optimizer.steps());
    for (name, before, now) in free.into_iter().filter_map(differs) {
        println!("changed  {name} from {before} to {now}");
    }
    Ok(position)
}

/// When and with what checkpoints are saved.
pub struct Saves<'a> {
    args: &'a Args,
    settings: Map<String, Value>,
    /// Step of the last one, or of the start.
    step: u64,
    time: Instant,
    /// Why the last one could not be saved.
    failure: Option<Error>,
}

impl<'a> Saves<'a> {
    pub fn new(args: &'a Args, splits: &Splits, step: u64) -> Saves<'a> {
        let all = settings(args, splits).concat().into_iter();
        let settings: Map<String, Value> = all.map(|(name, value)| (name.to_string(), json!(value))).collect();
        Saves { args, settings, step, time: Instant::now(), failure: None }
    }

    /// True if a checkpoint is to be saved after so many steps, within an epoch.
    pub fn are_due(&self, steps: u64) -> bool {
        match self.args.checkpoint_every {
            None => false,
            Some(Every::Steps(every)) => steps >= self.step + every,
            Some(Every::Time(time)) => self.time.elapsed() >= time,
        }
    }

    /// Saves a checkpoint if there is to be one. What the disk refuses is told and tried again at the next one.
    pub fn save(&mut self, params: &ParamStore, optimizer: &dyn Optimizer, loader: &Loader<'_>) -> Result<()> {
        let Some(path) = &self.args.checkpoint else { return Ok(()) };
        if self.step == optimizer.steps() && self.failure.is_none() {
            return Ok(());
        }
        (self.step, self.time) = (optimizer.steps(), Instant::now());
        self.failure = match self.save_to(path, params, optimizer, loader) {
            Err(error @ Error::Io { .. }) => {
                eprintln!("train_cnn: no checkpoint after {} steps: {error}; training goes on", self.step);
                Some(error)
            }
            other => other.map(|()| None)?,
        };
        Ok(())
    }

    /// Saves a checkpoint at a path.
    pub fn save_to(
        &self,
        path: &Path,
        params: &ParamStore,
        optimizer: &dyn Optimizer,
        loader: &Loader<'_>,
    ) -> kiln::Result<()> {
        let metadata = Map::from_iter([(SETTINGS.to_string(), Value::Object(self.settings.clone()))]);
        Checkpoint::save_with(path, params, Some(optimizer), Some(loader.position()), metadata)
    }

    /// `Err` if the last checkpoint could not be saved.
    pub fn finish(self) -> Result<()> {
        self.failure.map_or(Ok(()), |error| Err(error).context("the last checkpoint was not saved"))
    }
}
