//! A fit's checkpoints: what is in them, when they are written, and how a run goes on from one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::batches::Batches;
use super::callback::{Event, Named};
use super::history::{History, number, number_of};
use super::options::Every;
use super::ranks::SAVE;
use super::saves::Saves;
use super::settings::{Kept, Place, Shared, Trainer};
use super::sums::Sums;
use super::thread::on_thread;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::file;
use crate::optim::Average;
use crate::params::ParamStore;
use crate::train::checkpoint::{Checkpoint, Opened, Part, Parts};
use crate::train::metrics::{KIND, Streams};
use crate::wait;

/// The value that has what a trainer knows besides weights.
const TRAINER: &str = "trainer";

const SAME_RUN: &str = "pass what that run was made with, or begin anew";

/// What a checkpoint is written from and loaded into, on a thread of its own.
struct Held {
    stores: Vec<(String, ParamStore)>,
    optimizers: Vec<Named>,
    averages: Vec<(String, Average)>,
    shared: Vec<Shared>,
    streams: Streams,
    values: Vec<(String, Value)>,
}

/// A part that others share, while it is saved.
type Locked<'a> = MutexGuard<'a, dyn Part + Send + 'static>;

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Held {
    fn save(&self, path: &Path) -> Result<()> {
        let locked: Vec<_> = self.shared.iter().map(|(name, part)| (name, lock(part))).collect();
        let saved = self.parts(&locked).save(path);
        drop(locked);
        saved
    }

    fn parts<'a, 'b: 'a>(&'a self, locked: &'a [(&'b String, Locked<'b>)]) -> Parts<'a> {
        let mut parts = Checkpoint::parts();
        for (name, store) in &self.stores {
            parts = parts.store(name, store);
        }
        for (name, optimizer) in &self.optimizers {
            parts = parts.optimizer(name, &**optimizer);
        }
        for (name, average) in &self.averages {
            parts = parts.part(name, average);
        }
        for (name, part) in locked {
            parts = parts.part(name, &**part);
        }
        if !self.streams.is_empty() {
            parts = parts.part(TRAINER, &self.streams);
        }
        for (name, value) in &self.values {
            parts = parts.value(name, value.clone());
        }
        parts
    }

    /// Loads everything, or the weights and what belongs to them alone.
    fn load(&mut self, file: &Opened, weights_alone: bool) -> Result<()> {
        let mut locked: Vec<_> = match weights_alone {
            true => vec![],
            false => self.shared.iter().map(|(name, part)| (name, lock(part))).collect(),
        };
        let mut loading = file.load();
        for (name, store) in &self.stores {
            loading = loading.store(name, store);
        }
        for (name, optimizer) in &mut self.optimizers {
            loading = loading.optimizer(name, &mut **optimizer);
        }
        for (name, average) in &mut self.averages {
            loading = loading.part(name, average);
        }
        for (name, part) in &mut locked {
            loading = loading.part(name, &mut **part as &mut (dyn Part + Send));
        }
        // A run that had recorded none has none.
        if !weights_alone && file.has(KIND, TRAINER) {
            loading = loading.part(TRAINER, &mut self.streams);
        }
        for (name, value) in self.values.iter_mut().filter(|_| !weights_alone) {
            loading = loading.value(name, value);
        }
        if weights_alone {
            loading = loading.rest_ignored();
        }
        loading.finish()
    }
}

/// How a checkpoint calls what a callback knows.
fn value_of(callback: &str) -> String {
    format!("callback {callback}")
}

impl Trainer {
    /// What a checkpoint is made of; optimizers and metrics are gone from here until [`Trainer::give_back`].
    fn hold(&mut self, values: Vec<(String, Value)>) -> Held {
        Held {
            stores: self.stores.clone(),
            optimizers: std::mem::take(&mut self.optimizers),
            averages: self.averages.clone(),
            shared: self.shared.clone(),
            streams: std::mem::take(&mut self.sums.streams),
            values,
        }
    }

    /// Takes back what [`Trainer::hold`] gave; the values that are with it.
    fn give_back(&mut self, held: Held) -> Vec<(String, Value)> {
        (self.optimizers, self.sums.streams) = (held.optimizers, held.streams);
        held.values
    }

    /// Writes a checkpoint, on a thread of its own.
    async fn write_to(&mut self, path: PathBuf) -> Result<()> {
        let sums = self.sums.to_json().await?;
        if !self.world.is_first() {
            return Ok(());
        }
        let mut values = vec![(TRAINER.to_string(), self.to_json(sums))];
        for (name, callback) in &self.callbacks {
            let state = callback.state();
            if !state.is_null() {
                values.push((value_of(name), state));
            }
        }
        let held = self.hold(values);
        let (held, result) = on_thread(move || {
            let result = held.save(&path);
            (held, result)
        })
        .await?;
        self.give_back(held);
        result
    }

    /// Writes one of the checkpoints of a fit. What the disk refuses is tried again at the next one.
    async fn write(&mut self, path: PathBuf) -> Result<()> {
        match self.write_to(path.clone()).await {
            Ok(()) => {
                self.emit(Event::Saved(&path), None)?;
                self.unsaved = None;
                Ok(())
            }
            Err(error @ Error::Io { .. }) => {
                let text = format!("no checkpoint after step {}: {error}; training goes on", self.place.step);
                self.unsaved = Some(error);
                self.warn(&text)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a checkpoint of where the run stands after a fit, for another trainer to go on from
    /// ([`Trainer::resume_from`]): where a program that is asked to stop keeps none otherwise. [`Trainer::saves`] is for
    /// those within a fit.
    ///
    /// # Errors
    /// [`Error::Value`] before the first fit, [`Error::Io`]; else as [`Trainer::fit`].
    pub fn save(&mut self, path: impl Into<PathBuf>) -> Result<()> {
        if !self.begun {
            return Err(self.refuse("there is no run to save yet", "save after a fit"));
        }
        wait::block_on("Trainer::save", "Parts::save_bytes_async", async {
            self.settle().await?;
            self.write_to(path.into()).await
        })
    }

    /// Writes the checkpoints that are due after a step, or after an epoch.
    pub(super) async fn save_if_due(&mut self, epoch_ended: bool) -> Result<()> {
        let Some(saves) = self.saves.clone() else { return Ok(()) };
        let since = self.saved.map_or(Duration::ZERO, |saved| saved.elapsed());
        let default = [Every::Epochs(1)];
        let every = if saves.every.is_empty() { &default[..] } else { &saves.every };
        let is_due = every.iter().any(|every| match epoch_ended {
            true => every.is_due_at_epoch(self.place.epoch),
            // The clock is that of rank 0.
            false if matches!(every, Every::Time(_)) && !self.world.is_alone() => self.world.agreed() & SAVE != 0,
            false => every.is_due_at_step(self.place.step, since),
        });
        let best = saves.best_path().filter(|_| std::mem::take(&mut self.kept.best_due));
        if !is_due && best.is_none() {
            return Ok(());
        }
        self.settle().await?;
        let step = self.place.step;
        if is_due && saves.keep > 0 && self.kept.steps.last() != Some(&step) {
            self.kept.steps.push(step);
            let surplus = self.kept.steps.len().saturating_sub(saves.keep);
            self.kept.steps.drain(..surplus);
        }
        // The last one comes last: a run that is killed before it does all of this again.
        if let Some(path) = best {
            self.write(path).await?;
        }
        if is_due {
            self.saved = Some(Instant::now());
            if let Some(path) = saves.step_path(step).filter(|_| saves.keep > 0) {
                self.write(path).await?;
                self.write(saves.last_path().into()).await?;
                if self.world.is_first() {
                    saves.prune(&self.kept.steps, step);
                }
            } else {
                self.write(saves.last_path().into()).await?;
            }
            self.saved_at = Some(self.place);
        }
        Ok(())
    }

    /// Writes the last checkpoint of a fit, unless it has just been written.
    pub(super) async fn save_at_end(&mut self) -> Result<()> {
        let Some(saves) = self.saves.clone() else { return Ok(()) };
        let is_saved = self.saved_at == Some(self.place) && self.unsaved.is_none();
        // Of several ranks rank 0 alone knows what its disk has refused, and all have something to tell for a checkpoint.
        let told = self.world.gather(&[f64::from(u8::from(is_saved))])?;
        if told.first().and_then(|own| own.first()) == Some(&1.0) {
            return Ok(());
        }
        self.write(saves.last_path().into()).await?;
        self.saved_at = Some(self.place);
        Ok(())
    }

    /// Makes ready for a fit: seeks, and loads the checkpoint that the run goes on from. True if it goes on.
    pub(super) async fn begin(&mut self, train: &mut (impl Batches + ?Sized)) -> Result<bool> {
        let identity = self.identity_of(train);
        if self.begun {
            let wrong = differences(&self.identity, &identity);
            if !wrong.is_empty() {
                return Err(self.refuse(format!("a second fit of another run: {wrong}"), SAME_RUN));
            }
            self.agree(train)?;
            self.halve_as_before(train)?;
            return Ok(true);
        }
        self.identity = identity;
        self.agree(train)?;
        self.join()?;
        let from = if self.world.is_first() { self.checkpoint_to_begin_with()? } else { None };
        let shared = self.shared_checkpoint(from.as_ref())?;
        self.begun = true;
        match (from, shared) {
            (None, None) => Ok(false),
            (from, shared) => {
                let path = from.unwrap_or_else(|| "the checkpoint of rank 0".into());
                self.resume(path, shared, train).await.inspect_err(|_| self.begun = false).map(|()| true)
            }
        }
    }

    /// What the run goes on from, if it does, and whether all can be written that it is going to write.
    fn checkpoint_to_begin_with(&self) -> Result<Option<PathBuf>> {
        self.outputs.iter().try_for_each(|path| file::try_to_write(path))?;
        if self.resume_from.is_some() {
            self.saves.as_ref().map_or(Ok(()), Saves::try_to_write)?;
        }
        match self.saves.as_ref().filter(|_| self.resume_from.is_none()) {
            Some(saves) => saves.prepare(),
            None => Ok(self.resume_from.clone()),
        }
    }

    /// Halves batches as often as the run has done it.
    fn halve_as_before(&self, train: &mut (impl Batches + ?Sized)) -> Result<()> {
        for _ in 0..self.place.halved {
            if !train.halve()? {
                return Err(self.refuse("the run has halved its batches, and these cannot be", SAME_RUN));
            }
        }
        Ok(())
    }

    /// Goes on from a checkpoint. All of it is looked at before anything changes.
    async fn resume(
        &mut self,
        path: PathBuf,
        shared: Option<Vec<u8>>,
        train: &mut (impl Batches + ?Sized),
    ) -> Result<()> {
        let open = {
            let path = path.clone();
            move || shared.map_or_else(|| Checkpoint::open(path), |bytes| Checkpoint::from_bytes(&bytes))
        };
        let file = on_thread(open).await??;
        let refuse = |what: &str| Error::Checkpoint { path: path.clone(), what: what.into(), next: SAME_RUN };
        let Some(saved) = file.value(TRAINER).cloned() else {
            return Err(refuse("it is no checkpoint of a trainer"));
        };
        let wrong = saved["identity"].as_object().map(|before| differences(before, &self.identity));
        if let Some(wrong) = wrong.filter(|wrong| !wrong.is_empty()) {
            return Err(refuse(&format!("it is of another run: {wrong}")));
        }
        let damaged = || refuse("its state of the trainer is damaged");
        let now: Map<String, Value> = self.noted.iter().map(|(name, now)| (name.clone(), json!(now))).collect();
        let changed = saved["noted"].as_object().map(|before| changes(before, &now)).unwrap_or_default();
        let place = place_of(&saved["place"]).ok_or_else(damaged)?;
        let kept = kept_of(&saved["kept"]).ok_or_else(damaged)?;
        let history = History::of_json(&saved["history"]).ok_or_else(damaged)?;
        let sums = Sums::of_json(self.stores[0].1.device(), &saved["sums"]).ok_or_else(damaged)?;
        let mut values = vec![(TRAINER.to_string(), Value::Null)];
        for (name, callback) in &self.callbacks {
            let name = value_of(name);
            // One that knows nothing yet may have nothing there, and the other way round it is refused below.
            if !callback.state().is_null() || file.has("value", &name) {
                values.push((name, Value::Null));
            }
        }
        let mut held = self.hold(values);
        let (held, result) = on_thread(move || {
            let result = held.load(&file, false);
            (held, result)
        })
        .await?;
        let values = self.give_back(held);
        result?;
        for (name, callback) in &mut self.callbacks {
            if let Some((_, state)) = values.iter().find(|(value, _)| *value == value_of(name)) {
                let failed = |error| Error::Callback { name: name.clone(), source: Box::new(error) };
                callback.set_state(state).map_err(failed)?;
            }
        }
        (self.refusals.count, self.changed) = (history.skipped, changed);
        let (streams, ranks) = (std::mem::take(&mut self.sums.streams), self.sums.ranks.take());
        (self.place, self.kept, self.history, self.sums) = (place, kept, history, sums);
        (self.sums.streams, self.sums.ranks) = (streams, ranks);
        self.halve_as_before(train)?;
        train.seek(self.position())?;
        self.saved_at = Some(self.place);
        Ok(())
    }

    /// What must be the same when a run goes on.
    fn identity_of(&self, train: &(impl Batches + ?Sized)) -> Map<String, Value> {
        let per_epoch = self.limit.unwrap_or(train.batches_per_epoch());
        let own = [
            ("batches an epoch", per_epoch.to_string()),
            ("batches a step", self.batches_a_step().to_string()),
            ("steps a log", self.log_every.to_string()),
            ("precision", self.stores[0].1.precision().to_string()),
        ];
        let given = self.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let all = train.identity().into_iter().chain(own).chain(given);
        all.map(|(name, value)| (name.to_string(), Value::String(value))).collect()
    }

    /// Keeps models, optimizers and averages in a file at `path` until [`Trainer::take_back`].
    #[cfg(not(target_family = "wasm"))]
    pub(super) async fn put_aside(&mut self, path: PathBuf) -> Result<PathBuf> {
        let held = Held { shared: vec![], ..self.hold(vec![]) };
        let (held, path, result) = on_thread(move || {
            let result = held.save(&path);
            (held, path, result)
        })
        .await?;
        self.give_back(held);
        result.map(|()| path)
    }

    /// Takes models, optimizers and averages back to what was put aside.
    #[cfg(not(target_family = "wasm"))]
    pub(super) async fn take_back(&mut self, path: PathBuf) -> Result<()> {
        let restored = self.load_weights(path.clone()).await;
        let _ = std::fs::remove_file(&path);
        restored
    }

    /// Keeps models, optimizers and averages in memory until [`Trainer::take_back`].
    #[cfg(target_family = "wasm")]
    pub(super) async fn put_aside(&mut self, _: PathBuf) -> Result<Vec<u8>> {
        let held = Held { shared: vec![], ..self.hold(vec![]) };
        let bytes = held.parts(&[]).save_bytes_async().await;
        self.give_back(held);
        bytes
    }

    /// Takes models, optimizers and averages back to what was put aside.
    #[cfg(target_family = "wasm")]
    pub(super) async fn take_back(&mut self, bytes: Vec<u8>) -> Result<()> {
        let file = Checkpoint::from_bytes(&bytes)?;
        self.settle().await?;
        let mut held = self.hold(vec![]);
        let loaded = held.load(&file, true);
        self.give_back(held);
        loaded
    }

    /// Takes models, optimizers and averages back to a checkpoint.
    pub(super) async fn load_weights(&mut self, path: PathBuf) -> Result<()> {
        let mut held = self.hold(vec![]);
        let (held, result) = on_thread(move || {
            let result = Checkpoint::open(path).and_then(|file| held.load(&file, true));
            (held, result)
        })
        .await?;
        self.give_back(held);
        result
    }

    /// Puts the weights of the best checkpoint into the models; optimizers and counts stay. For after a fit.
    ///
    /// # Errors
    /// [`Error::Value`] if no best checkpoint is kept; else as [`ParamStore::load`].
    pub fn load_best(&self) -> Result<()> {
        let Some(path) = self.saves.as_ref().filter(|saves| saves.best.is_some()).and_then(|saves| saves.best_path())
        else {
            return Err(self.refuse("no best checkpoint is kept", "keep one, by Saves::best"));
        };
        let file = Checkpoint::open(path)?;
        let mut loading = file.load().rest_ignored();
        for (name, store) in &self.stores {
            loading = loading.store(name, store);
        }
        loading.finish()
    }

    /// All that a trainer knows, but for callbacks.
    fn to_json(&self, sums: Value) -> Value {
        let Place { epoch, batch, step, halved, validation_due, begun, went_back, .. } = self.place;
        let Kept { best, steps, .. } = &self.kept;
        json!({
            "identity": self.identity,
            "noted": self.noted.iter().cloned().collect::<BTreeMap<_, _>>(),
            "place": {
                "epoch": epoch, "batch": batch, "step": step, "halved": halved,
                "validation_due": validation_due, "begun": begun, "went_back": went_back,
                "seconds": self.elapsed().as_secs_f64(),
            },
            "kept": { "best": best.map(number), "steps": steps },
            "history": self.history.to_json(),
            "sums": sums,
        })
    }
}

/// What differs between two runs: names, with the value of each.
fn changes(before: &Map<String, Value>, now: &Map<String, Value>) -> Vec<[String; 3]> {
    let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let text =
        |all: &Map<String, Value>, name: &str| all.get(name).and_then(Value::as_str).unwrap_or("none").to_string();
    let pairs = names.into_iter().map(|name| [name.clone(), text(before, name), text(now, name)]);
    pairs.filter(|[_, before, now]| before != now).collect()
}

/// The same in words; empty if nothing differs.
fn differences(before: &Map<String, Value>, now: &Map<String, Value>) -> String {
    let told = changes(before, now).into_iter().map(|[name, before, now]| format!("{name} {before} there, {now} here"));
    told.collect::<Vec<_>>().join("; ")
}

fn place_of(value: &Value) -> Option<Place> {
    Some(Place {
        epoch: value["epoch"].as_u64()?,
        batch: value["batch"].as_u64()?,
        step: value["step"].as_u64()?,
        halved: value["halved"].as_u64()?.try_into().ok().filter(|halved| *halved < 32)?,
        validation_due: value["validation_due"].as_bool()?,
        begun: value["begun"].as_bool()?,
        went_back: value["went_back"].as_u64()?,
        seconds: value["seconds"].as_f64()?,
    })
}

fn kept_of(value: &Value) -> Option<Kept> {
    let best = match &value["best"] {
        Value::Null => None,
        best => Some(number_of(best)?),
    };
    let steps = value["steps"].as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<_>>>()?;
    Some(Kept { best, steps, best_due: false })
}
