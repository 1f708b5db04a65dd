//! A study: trials of one space, one after the other, here and in other processes.

use std::fmt::{self, Display};
use std::path::Path;

use super::event;
use super::journal::{Journal, header};
use super::pruner::Pruner;
use super::record::{Goal, Record, State};
use super::sampler::{History, Sampler};
use super::space::Space;
use super::trial::Trial;
use super::worker::is_alive;
use crate::clock::Instant;
use crate::error::Result;

/// What a study is for, and how it goes on.
#[derive(Debug, Clone, Copy)]
pub struct StudyConfig {
    /// Whether small or large values are good; small ones by default.
    pub goal: Goal,
    /// The seed of all points.
    pub seed: u64,
    /// How often the point of a killed trial is tried again (once by default). A trial that gives an error is not.
    pub retries: u32,
}

impl Default for StudyConfig {
    fn default() -> StudyConfig {
        StudyConfig { goal: Goal::Minimize, seed: 0, retries: 1 }
    }
}

/// Trials of one space, and who says which comes next.
///
/// ```
/// use kiln::search::{Space, Study, StudyConfig, Tpe};
///
/// let space = Space::new().uniform("x", -5.0, 5.0).uniform("y", -5.0, 5.0);
/// let mut study = Study::new(space, Tpe::default(), StudyConfig::default())?;
/// study.run(60, |trial| {
///     let (x, y) = (trial.float("x")?, trial.float("y")?);
///     Ok::<f64, kiln::Error>((x - 1.0).powi(2) + (y + 2.0).powi(2))
/// })?;
/// let best = study.best().expect("a trial is complete");
/// assert!(best.value.is_some_and(|value| value < 1.0), "{}", best.point);
/// # Ok::<(), kiln::Error>(())
/// ```
///
/// The same seed gives the same trials; for several processes that is so for points that do not depend on the order in
/// which trials end ([`Random`](super::Random), [`Halton`](super::Halton), [`Grid`](super::Grid)).
pub struct Study {
    pub(super) space: Space,
    pub(super) config: StudyConfig,
    pub(super) journal: Journal,
    pub(super) pruner: Option<Box<dyn Pruner>>,
    sampler: Box<dyn Sampler>,
}

impl Study {
    /// A study that is gone with the program.
    ///
    /// # Errors
    /// Those of [`Space::check`].
    pub fn new(space: Space, sampler: impl Sampler + 'static, config: StudyConfig) -> Result<Study> {
        space.check()?;
        let sampler = Box::new(sampler);
        Ok(Study { space, config, journal: Journal::in_memory(), pruner: None, sampler })
    }

    /// A study in a file of JSON lines, which is made if there is none. It goes on where the file ends, and several
    /// processes may work on it at a time: each sees the trials of the others. A trial whose process was killed is
    /// recorded as that, and its point tried again ([`StudyConfig::retries`]).
    ///
    /// # Errors
    /// Those of [`Space::check`]; [`Error::Checkpoint`](crate::Error::Checkpoint) for a file of another space, goal or
    /// seed; [`Error::File`](crate::Error::File) for one that is no study or is damaged, unless its last line was cut
    /// short, which is cut off; [`Error::Io`](crate::Error::Io).
    pub fn open(
        path: impl AsRef<Path>,
        space: Space,
        sampler: impl Sampler + 'static,
        config: StudyConfig,
    ) -> Result<Study> {
        space.check()?;
        let journal = Journal::open(path.as_ref(), &space, &header(&space, config.goal.name(), config.seed))?;
        Ok(Study { space, config, journal, pruner: None, sampler: Box::new(sampler) })
    }

    /// Stops trials that are not worth their time.
    pub fn pruner(mut self, pruner: impl Pruner + 'static) -> Study {
        self.pruner = Some(Box::new(pruner));
        self
    }

    /// Runs `objective` until the study has `trials` points, those of earlier runs and other processes counted, or the
    /// sampler has no more. A trial of a point that was killed does not count.
    ///
    /// The value of a trial is what `objective` returns. An error, or a value that is not finite, is recorded as the end of
    /// that trial alone, and not tried again.
    ///
    /// # Errors
    /// Those of the sampler, and of the file.
    pub fn run<E: Display>(
        &mut self,
        trials: u64,
        mut objective: impl FnMut(&mut Trial<'_>) -> Result<f64, E>,
    ) -> Result<()> {
        while let Some(mut trial) = self.next(trials)? {
            let result = objective(&mut trial);
            trial.finish(result)?;
        }
        Ok(())
    }

    /// Begins a trial, for programs with a loop of their own: it ends with [`Trial::finish`]. `None` once the sampler has
    /// no more points.
    ///
    /// # Errors
    /// Those of the sampler, and of the file.
    pub fn ask(&mut self) -> Result<Option<Trial<'_>>> {
        self.next(u64::MAX)
    }

    fn next(&mut self, most: u64) -> Result<Option<Trial<'_>>> {
        let Study { space, config, journal, sampler, .. } = self;
        let begun = journal.locked(space, |journal| {
            bury(journal, space)?;
            let number = journal.records.len() as u64;
            let (point, place) = match killed(&journal.records, config.retries) {
                Some(record) => (record.point.clone(), [record.draw, u64::from(record.attempt) + 1]),
                None => {
                    let draw = journal.records.iter().map(|record| record.draw + 1).max().unwrap_or(0);
                    if draw >= most {
                        return Ok(None);
                    }
                    let records = counted(&journal.records, config.retries);
                    let history = History { space, records: &records, goal: config.goal, seed: config.seed, draw };
                    match sampler.suggest(&history)? {
                        Some(point) => (point, [draw, 0]),
                        None => return Ok(None),
                    }
                }
            };
            let worker = journal.worker()?.map(String::from);
            journal.append(space, &event::start(number, place, &point, worker.as_deref()))?;
            Ok(Some(number))
        })?;
        Ok(begun.map(|number| Trial::new(self, number as usize, Instant::now())))
    }

    /// Reads what other processes have written since.
    ///
    /// # Errors
    /// Those of the file.
    pub fn refresh(&mut self) -> Result<()> {
        let space = &self.space;
        self.journal.locked(space, |journal| bury(journal, space))
    }

    /// All trials, in the order in which they began.
    pub fn trials(&self) -> &[Record] {
        &self.journal.records
    }

    /// The complete trial of the best value, the first of several; `None` while none is complete.
    pub fn best(&self) -> Option<&Record> {
        let complete = self.trials().iter().filter_map(|record| Some((record.loss(self.config.goal)?, record)));
        complete.reduce(|best, other| if other.0 < best.0 { other } else { best }).map(|(_, record)| record)
    }

    /// The space.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What the study is for.
    pub fn config(&self) -> StudyConfig {
        self.config
    }
}

/// Records the end of trials whose process ended before they did.
fn bury(journal: &mut Journal, space: &Space) -> Result<()> {
    let Some(stored) = &journal.stored else { return Ok(()) };
    let (path, own) = (stored.path.clone(), stored.worker_name().map(String::from));
    let mut known: Vec<(String, bool)> = own.map(|own| (own, true)).into_iter().collect();
    let running = journal.records.iter().filter(|record| record.state == State::Running);
    let running: Vec<(u64, Option<String>)> = running.map(|record| (record.number, record.worker.clone())).collect();
    for (number, worker) in running {
        let alive = worker.is_some_and(|worker| match known.iter().find(|(name, _)| *name == worker) {
            Some((_, alive)) => *alive,
            None => {
                let alive = is_alive(&path, &worker);
                known.push((worker, alive));
                alive
            }
        });
        if !alive {
            journal.append(space, &event::end(number, &State::Killed, None, None))?;
        }
    }
    Ok(())
}

/// The first killed trial whose point is to be tried again.
fn killed(records: &[Record], retries: u32) -> Option<&Record> {
    let is_later = |record: &Record, other: &Record| other.draw == record.draw && other.attempt > record.attempt;
    let is_due = |record: &&Record| {
        record.state == State::Killed
            && record.attempt < retries
            && !records.iter().any(|other| is_later(record, other))
    };
    records.iter().find(is_due)
}

/// What samplers and pruners see: a trial a point, in the order of the points.
fn counted(records: &[Record], retries: u32) -> Vec<&Record> {
    let mut counted: Vec<&Record> =
        records.iter().filter(|record| record.state != State::Killed || record.attempt >= retries).collect();
    counted.sort_by_key(|record| record.draw);
    counted
}

impl fmt::Debug for Study {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trials = self.trials().len();
        f.debug_struct("Study")
            .field("space", &self.space)
            .field("config", &self.config)
            .field("trials", &trials)
            .finish()
    }
}
