//! The parts that Kiln has: optimizers, counters of draws, positions in data, a program's own JSON. Stores are in
//! `store.rs`.

use serde_json::{Map, Value, json};

use super::names::{DRAWS, OPTIMIZER, POSITION, VALUE};
use super::part::{Commit, Part, PartReader, PartWriter};
use crate::data::{DataLoader, Loader, Position};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::{InPlace, Optimizer, OptimizerState, StateInPlace, StateTensors, Stepper};
use crate::params::ParamStore;
use crate::rng::Draws;

const SAME_RUN: &str = "resume with the optimizer and settings that it was saved with, or leave the optimizer out";

/// Two counts.
pub(super) fn pair(value: &Value) -> Option<(u64, u64)> {
    match &value.as_array()?[..] {
        [first, second] => Some((first.as_u64()?, second.as_u64()?)),
        _ => None,
    }
}

/// What was saved of a part, which must be an object of no other than these entries.
pub(super) fn object<'a>(from: &PartReader<'a>, known: &[&str]) -> Result<&'a Map<String, Value>> {
    let object = from.state().as_object().ok_or_else(|| from.damaged("they are no object"))?;
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            let what = format!("it has a part `{name}` that this version of Kiln does not know");
            Err(from.refuse(what, "load it with the version that saved it"))
        }
        None => Ok(object),
    }
}

/// An entry, as `read` makes it of what was saved.
pub(super) fn entry<T>(
    from: &PartReader<'_>,
    object: &Map<String, Value>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<T> {
    let found = read(object.get(name).unwrap_or(&Value::Null));
    found.ok_or_else(|| from.damaged(format!("the part `{name}` is missing or damaged")))
}

/// The tensors are those of [`OptimizerState`], by its names.
impl Part for dyn Optimizer + '_ {
    fn kind(&self) -> &str {
        OPTIMIZER
    }

    fn changes_with(&self) -> Option<&ParamStore> {
        Some(self.store())
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        let StateInPlace { state, tensors } = self.state_in_place()?;
        let lrs = std::iter::once(&state.lr).chain(&state.more_lrs);
        if let Some(lr) = lrs.copied().find(|lr| !(lr.is_finite() && *lr >= 0.0)) {
            return Err(to.refuse(format!("the learning rate is {lr}"), "set one that is finite and not negative"));
        }
        to.state(written(&state));
        for InPlace { name, shape, place, demand } in tensors {
            to.place(name, DType::F32, shape, place, demand);
        }
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let state = optimizer_state(from)?;
        let tensor = |name| Ok((name, from.any(name)?));
        let tensors: StateTensors<'a> = from.names().map(tensor).collect::<Result<_>>()?;
        self.check_state_packed(&state, &tensors).map_err(|error| match error {
            Error::Value { what, .. } => from.refuse(what, SAME_RUN),
            other => other,
        })?;
        Ok(Box::new(move || self.set_state_packed(&state, &tensors)))
    }
}

impl<R: ?Sized + Send + Sync> Part for Stepper<R> {
    fn kind(&self) -> &str {
        OPTIMIZER
    }

    fn changes_with(&self) -> Option<&ParamStore> {
        Some(self.store())
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        <dyn Optimizer + '_ as Part>::write(self, to)
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        <dyn Optimizer + '_ as Part>::read(self, from)
    }
}

/// An optimizer's state without its tensors. Numbers are texts, as files have them since before JSON's were read back to the
/// bit.
fn written(state: &OptimizerState) -> Value {
    let mut value = json!({
        "rule": state.rule,
        "lr": state.lr.to_string(),
        "steps": state.steps,
        "updates": state.updates,
        "loss_scale": state.loss_scale.map(|(scale, good)| (scale.to_string(), good)),
    });
    let texts = |numbers: &[f64]| -> Vec<String> { numbers.iter().map(f64::to_string).collect() };
    if !state.more_lrs.is_empty() {
        value["more_lrs"] = json!(texts(&state.more_lrs));
    }
    if !state.kept.is_empty() {
        value["kept"] = state.kept.iter().map(|(name, own)| json!([name, texts(own)])).collect();
    }
    value
}

/// An optimizer's state without its tensors.
fn optimizer_state(from: &PartReader<'_>) -> Result<OptimizerState> {
    let saved = object(from, &["rule", "lr", "more_lrs", "steps", "updates", "kept", "loss_scale"])?;
    let number = |text: &Value| text.as_str()?.parse::<f64>().ok();
    let numbers = |all: &Value| all.as_array()?.iter().map(number).collect::<Option<Vec<f64>>>();
    let kept = |entry: &Value| match &entry.as_array()?[..] {
        [name, own] => Some((name.as_str()?.to_string(), numbers(own)?.try_into().ok()?)),
        _ => None,
    };
    // Rules without them save none.
    let more_lrs = |all: &Value| if all.is_null() { Some(vec![]) } else { numbers(all) };
    let all_kept = |all: &Value| match all {
        Value::Null => Some(vec![]),
        all => all.as_array()?.iter().map(kept).collect(),
    };
    let update = |entry: &Value| match &entry.as_array()?[..] {
        [name, count] => Some((name.as_str()?.to_string(), count.as_u64()?)),
        _ => None,
    };
    let loss_scale = |entry: &Value| match entry {
        Value::Null => Some(None),
        pair => match &pair.as_array()?[..] {
            [scale, good] => Some(Some((scale.as_str()?.parse().ok()?, good.as_u64()?))),
            _ => None,
        },
    };
    Ok(OptimizerState {
        rule: entry(from, saved, "rule", |rule| Some(rule.as_str()?.into()))?,
        lr: entry(from, saved, "lr", |lr| lr.as_str()?.parse().ok())?,
        steps: entry(from, saved, "steps", Value::as_u64)?,
        updates: entry(from, saved, "updates", |all| all.as_array()?.iter().map(update).collect())?,
        more_lrs: entry(from, saved, "more_lrs", more_lrs)?,
        kept: entry(from, saved, "kept", all_kept)?,
        loss_scale: entry(from, saved, "loss_scale", loss_scale)?,
        tensors: vec![],
    })
}

/// Seed and number of the next draw. Those of a store are saved with it; this is for counters of a program's own.
impl Part for Draws {
    fn kind(&self) -> &str {
        DRAWS
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        let (seed, next) = self.position();
        to.state(json!([seed, next]));
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let position = pair(from.state()).ok_or_else(|| from.damaged("they are no seed and number"))?;
        Ok(Box::new(move || {
            self.seek(position);
            Ok(())
        }))
    }
}

fn position(from: &PartReader<'_>) -> Result<Position> {
    let (epoch, batch) = pair(from.state()).ok_or_else(|| from.damaged("they are no epoch and batch"))?;
    Ok(Position { epoch, batch })
}

impl Part for Position {
    fn kind(&self) -> &str {
        POSITION
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        to.state(json!([self.epoch, self.batch]));
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let position = position(from)?;
        Ok(Box::new(move || {
            *self = position;
            Ok(())
        }))
    }
}

/// A position that an epoch of so many batches has.
fn position_within(from: &PartReader<'_>, batches: u64) -> Result<Position> {
    let position = position(from)?;
    if position.batch > batches {
        let what = format!("batch {} of an epoch that has {batches}", position.batch);
        return Err(from.refuse(what, "use the data set and the batch size that it was saved with"));
    }
    Ok(position)
}

/// The same as its [`Position`], which is checked against the data set and the batch size.
impl Part for Loader<'_> {
    fn kind(&self) -> &str {
        POSITION
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        self.position().write(to)
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let position = position_within(from, self.batches_per_epoch())?;
        Ok(Box::new(move || self.seek(position)))
    }
}

/// As a [`Loader`].
impl<T: 'static, C> Part for DataLoader<T, C> {
    fn kind(&self) -> &str {
        POSITION
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        self.position().write(to)
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let position = position_within(from, self.batches_per_epoch())?;
        Ok(Box::new(move || self.seek(position)))
    }
}

/// A program's own. Numbers come back to the bit; JSON has none that are not finite.
impl Part for Value {
    fn kind(&self) -> &str {
        VALUE
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        to.state(self.clone());
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let value = from.state().clone();
        Ok(Box::new(move || {
            *self = value;
            Ok(())
        }))
    }
}
