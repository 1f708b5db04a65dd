//! Averages of weights and rates that look at a metric, as parts.

use serde_json::{Value, json};

use super::kinds::{entry, object};
use super::names::{AVERAGE, PLATEAU};
use super::part::{Commit, Part, PartReader, PartWriter};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::optim::{Average, AverageInPlace, AverageState, Ema, InPlace, LastN, StateTensors, Swa};
use crate::params::ParamStore;
use crate::schedule::Plateau;

const SAME_RUN: &str = "resume with the average and the model that it was saved from, or leave the average out";

fn write(average: &Average, to: &mut PartWriter<'_>) -> Result<()> {
    let AverageInPlace { state, tensors } = average.state_in_place()?;
    to.state(json!({ "kind": state.kind, "steps": state.steps, "counts": state.counts }));
    for InPlace { name, shape, place, demand } in tensors {
        to.place(name, DType::F32, shape, place, demand);
    }
    Ok(())
}

fn read<'a>(average: &'a Average, from: &PartReader<'a>) -> Result<Commit<'a>> {
    let saved = object(from, &["kind", "steps", "counts"])?;
    let count = |entry: &Value| match &entry.as_array()?[..] {
        [name, count] => Some((name.as_str()?.to_string(), count.as_u64()?)),
        _ => None,
    };
    let state = AverageState {
        kind: entry(from, saved, "kind", |kind| Some(kind.as_str()?.into()))?,
        steps: entry(from, saved, "steps", Value::as_u64)?,
        counts: entry(from, saved, "counts", |all| all.as_array()?.iter().map(count).collect())?,
        tensors: vec![],
    };
    let tensor = |name| Ok((name, from.any(name)?));
    let tensors: StateTensors<'a> = from.names().map(tensor).collect::<Result<_>>()?;
    average.fitting(&state, &tensors).map_err(|error| match error {
        Error::Value { what, .. } => from.refuse(what, SAME_RUN),
        other => other,
    })?;
    Ok(Box::new(move || average.restore(average.fitting(&state, &tensors)?)))
}

/// The tensors are those of [`AverageState`], by its names.
macro_rules! is_a_part {
    ($($name:ident),+) => {
        $(impl Part for $name {
            fn kind(&self) -> &str {
                AVERAGE
            }

            fn changes_with(&self) -> Option<&ParamStore> {
                Some(self.store())
            }

            fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
                write(self, to)
            }

            fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
                read(self, from)
            }
        })+
    };
}

is_a_part!(Average, Ema, Swa, LastN);

/// What [`Plateau::state`] gives.
impl Part for Plateau {
    fn kind(&self) -> &str {
        PLATEAU
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        to.state(self.state());
        Ok(())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let state = from.state();
        self.clone().set_state(state).map_err(|error| match error {
            Error::Value { what, .. } => from.damaged(what),
            other => other,
        })?;
        Ok(Box::new(move || self.set_state(state)))
    }
}
