//! Where checkpoints of a fit go, and which are kept.

use std::fs;
use std::path::{Path, PathBuf};

use super::options::Every;
use super::watched::Watched;
use crate::error::{Error, Result};
use crate::file;
use crate::schedule::Goal;

/// What to do where a run has left its checkpoints already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    Refuse,
    Resume,
    Replace,
}

/// Checkpoints of a fit: where they go, how often, which are kept.
///
/// In a folder there are `last.safetensors`, from which a run resumes, `best.safetensors` with [`Saves::best`], and
/// `step-00000100.safetensors` and the like with [`Saves::keep_last`]. Each is a whole
/// [checkpoint](crate::train::checkpoint): [`ParamStore::load`](crate::ParamStore::load) reads its weights, if the trainer
/// has one store.
///
/// A checkpoint is written when nothing is half done, and takes the place of the old one at once: a run that is killed
/// anywhere goes on from the last one, to the same bits, the same history and the same best checkpoint. What the disk
/// refuses is a warning, and is tried again at the next one; if the last of a fit fails, the fit does.
#[derive(Debug, Clone)]
pub struct Saves {
    folder: Option<PathBuf>,
    last: PathBuf,
    existing: Existing,
    pub(super) every: Vec<Every>,
    pub(super) keep: usize,
    pub(super) best: Option<Watched>,
}

impl Saves {
    /// Checkpoints in a folder, which is made if it is not there. One that has checkpoints already is refused when the fit
    /// begins; [`Saves::resume`] and [`Saves::replace`] say otherwise.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Saves {
        let folder = folder.into();
        Saves { last: folder.join("last.safetensors"), folder: Some(folder), ..Saves::to_file("") }
    }

    /// A single checkpoint at a path, the last one.
    pub fn to_file(path: impl Into<PathBuf>) -> Saves {
        Saves { folder: None, last: path.into(), existing: Existing::Refuse, every: vec![], keep: 0, best: None }
    }

    /// Goes on from the last checkpoint if there is one, and begins anew if not.
    #[must_use]
    pub fn resume(self) -> Saves {
        Saves { existing: Existing::Resume, ..self }
    }

    /// Begins anew, and removes the checkpoints that are there.
    #[must_use]
    pub fn replace(self) -> Saves {
        Saves { existing: Existing::Replace, ..self }
    }

    /// How often to save (default: after each epoch). Said several times, all of them hold. At its end a fit saves in any
    /// case.
    #[must_use]
    pub fn every(mut self, every: Every) -> Saves {
        self.every.push(every);
        self
    }

    /// Keeps the last `count` checkpoints too, under names of their own. Only in a folder.
    #[must_use]
    pub fn keep_last(mut self, count: usize) -> Saves {
        self.keep = count;
        self
    }

    /// Keeps the checkpoint with the best value of a metric. `val_` metrics are looked at after each validation, others after
    /// each epoch; one that is NaN is never the best. Only in a folder.
    #[must_use]
    pub fn best(mut self, metric: &str, goal: Goal) -> Saves {
        self.best = Some(Watched::new(metric, goal));
        self
    }

    /// The file of the last checkpoint.
    pub fn last_path(&self) -> &Path {
        &self.last
    }

    /// The file of the best checkpoint.
    pub fn best_path(&self) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join("best.safetensors"))
    }

    /// The file of the checkpoint after `step` steps.
    pub(super) fn step_path(&self, step: u64) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("step-{step:08}.safetensors")))
    }

    /// What is wrong with the settings, and what to do.
    pub(super) fn problem(&self) -> Option<(String, &'static str)> {
        if self.every.iter().any(|every| every.is_never()) {
            return Some(("checkpoints every 0 steps, epochs or seconds".into(), "pass a number above 0"));
        }
        if self.folder.is_none() && (self.keep > 0 || self.best.is_some()) {
            let what = "the best or the last checkpoints are to be kept, and there is one file".into();
            return Some((what, "keep them in a folder, by Saves::in_folder"));
        }
        None
    }

    /// Files of checkpoints after some step, with its number.
    fn of_steps(&self) -> Vec<(u64, PathBuf)> {
        let entries = self.folder.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let step = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let step = name.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
            Some((step, entry.path()))
        };
        entries.filter_map(step).collect()
    }

    /// Removes checkpoints of steps up to `step` that are not to be kept. One that cannot be removed is in nobody's way.
    pub(super) fn prune(&self, kept: &[u64], step: u64) {
        for (own, path) in self.of_steps() {
            if own <= step && !kept.contains(&own) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Makes the folder, and gives the checkpoint that a new run goes on from, if it is to.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] if there are checkpoints and nothing was said about them, [`Error::Io`].
    pub(super) fn prepare(&self) -> Result<Option<PathBuf>> {
        let mut there: Vec<PathBuf> = self.of_steps().into_iter().map(|(_, path)| path).collect();
        there.extend([Some(self.last.clone()), self.best_path()].into_iter().flatten().filter(|path| path.exists()));
        match self.existing {
            Existing::Resume if self.last.exists() => return Ok(Some(self.last.clone())),
            Existing::Resume => {}
            Existing::Replace => {
                for path in there.iter().filter(|_| self.folder.is_some()) {
                    fs::remove_file(path).map_err(|error| Error::io(path, "remove", error))?;
                }
            }
            Existing::Refuse => {
                if let Some(path) = there.into_iter().next() {
                    let what = "a run has left this checkpoint, and no checkpoint is overwritten unasked".into();
                    let next = "choose another path, or say Saves::resume to go on with that run, or Saves::replace";
                    return Err(Error::Checkpoint { path, what, next });
                }
            }
        }
        self.try_to_write().map(|()| None)
    }

    /// Makes sure that the last checkpoint can be written: before the first step, not behind the first epoch.
    pub(super) fn try_to_write(&self) -> Result<()> {
        if self.last.is_dir() {
            let what = "it is a folder, where a checkpoint is to be written".into();
            return Err(Error::Checkpoint {
                path: self.last.clone(),
                what,
                next: "name a file in it, or use Saves::in_folder",
            });
        }
        file::try_to_write(&self.last)
    }
}
