//! What a resumed run needs of an optimizer, to the host and back.

use std::collections::HashMap;
use std::sync::Arc;

use super::rule::Rule;
use super::tally::MOST_UPDATES;
use super::{Optimizer, Stepper};
use crate::dtype::DType;
use crate::engine::Author;
use crate::error::{Error, Problem, Result};
use crate::packed::{Demand, Packed};
use crate::params::{BLOCK, Placed};
use crate::shape::Shape;
use crate::transfer::{Place, Reader, Writer};

/// State of an optimizer on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimizerState {
    /// Name of the optimizer's rule.
    pub rule: String,
    /// Learning rate.
    pub lr: f64,
    /// Number of steps.
    pub steps: u64,
    /// Number of updates of each parameter that has had any.
    pub updates: Vec<(String, u64)>,
    /// The loss scale and the good steps since it changed, where losses are scaled.
    pub loss_scale: Option<(f64, u64)>,
    /// What is kept for each parameter: name (`m.conv1.weight`), shape, values.
    pub tensors: Vec<(String, Shape, Vec<f64>)>,
}

/// An [`OptimizerState`] whose tensors were left where they are, for checkpoints.
#[doc(hidden)]
pub struct StateInPlace {
    /// All but the tensors.
    pub(crate) state: OptimizerState,
    pub(crate) tensors: Vec<InPlace>,
}

/// A tensor of a [`StateInPlace`].
pub(crate) struct InPlace {
    pub name: String,
    pub shape: Shape,
    pub place: Place,
    pub demand: Demand,
}

/// Tensors of a state by name, as a file holds them.
#[doc(hidden)]
pub type StateTensors<'a> = HashMap<&'a str, (Shape, Packed<'a>)>;

impl StateInPlace {
    /// Of a state that is on the host.
    pub(super) fn on_host(mut state: OptimizerState) -> StateInPlace {
        let tensors = std::mem::take(&mut state.tensors).into_iter().map(|(name, shape, values)| InPlace {
            name,
            shape,
            place: Place::Host(values),
            demand: Demand::Finite,
        });
        StateInPlace { tensors: tensors.collect(), state }
    }
}

/// The state with its tensors on the host.
pub(super) fn with_tensors(state: &OptimizerState, tensors: &StateTensors<'_>) -> OptimizerState {
    let mut tensors: Vec<_> =
        tensors.iter().map(|(name, (shape, values))| (name.to_string(), *shape, values.to_vec())).collect();
    tensors.sort_by(|left, right| left.0.cmp(&right.0));
    OptimizerState { tensors, ..state.clone() }
}

impl<R: Rule> Stepper<R> {
    pub(super) fn saved(&self) -> Result<OptimizerState> {
        let StateInPlace { mut state, tensors } = self.saved_in_place()?;
        let mut reader = Reader::new(self.store.device());
        for InPlace { name, shape, place, .. } in tensors {
            let mut values = Vec::with_capacity(shape.elements());
            reader.read(&place, shape.elements(), &mut |part| {
                values.extend((0..part.len()).map(|i| part.get(i)));
                Ok(())
            })?;
            state.tensors.push((name, shape, values));
        }
        Ok(state)
    }

    pub(super) fn saved_in_place(&self) -> Result<StateInPlace> {
        if self.gathered.contains(&true) {
            let what = "the state was asked for between accumulate and step".into();
            return Err(self.refuse(Problem::Value(what, "ask for it after a step")));
        }
        let layout = self.store.layout()?;
        let device = self.store.device();
        // What the device has refused is known then, and told.
        self.store.settled()?;
        let (counts, loss_scale) = match &self.tally {
            Some(tally) => {
                let scale = tally.scaling.map(|_| tally.scale.read(0, 2)).transpose()?;
                (tally.counts(device, layout.len())?, scale.map(|scale| (scale[0], scale[1] as u64)))
            }
            None => (vec![0; layout.len()], None),
        };
        let mut state = OptimizerState {
            rule: self.rule.name().into(),
            lr: self.lr(),
            steps: self.steps(),
            updates: vec![],
            loss_scale,
            tensors: vec![],
        };
        let updated = || layout.iter().zip(&counts).filter(|(_, updates)| **updates > 0);
        state.updates.extend(updated().map(|(place, &updates)| (place.name.to_string(), updates)));
        // As they lie, so that they are read in one go.
        let mut kept: Vec<_> = (0..self.rule.moments().len())
            .flat_map(|moment| updated().map(move |(place, _)| (place.chunk, moment, place)))
            .collect();
        kept.sort_by_key(|&(chunk, moment, place)| (chunk, moment, place.offset));
        let tensor = |(chunk, moment, place): (usize, usize, &Placed)| {
            let name = self.rule.moments()[moment];
            let arena = self.moments.get(chunk)?.get(moment)?;
            Some(InPlace {
                name: format!("{name}.{}", place.name),
                shape: place.shape,
                place: Place::Arena(arena.clone(), place.offset),
                demand: self.demand(name),
            })
        };
        let tensors = kept.into_iter().filter_map(tensor).collect();
        Ok(StateInPlace { state, tensors })
    }

    fn demand(&self, moment: &str) -> Demand {
        if self.rule.is_never_negative(moment) { Demand::FiniteNotNegative } else { Demand::Finite }
    }

    pub(super) fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        let mut tensors = StateTensors::new();
        for (name, shape, values) in &state.tensors {
            let doubled = tensors.insert(name, (*shape, Packed::of(values))).is_some();
            if doubled || values.len() != shape.elements() {
                let why = if doubled { "is there twice" } else { "has another number of values than its shape" };
                return Err(self.foreign(format!("`{name}` {why}")));
            }
        }
        self.restore_packed(state, &tensors)
    }

    fn foreign(&self, what: String) -> Error {
        self.refuse(Problem::Value(what, "load it into the optimizer and the model that it was saved from"))
    }

    /// [`Stepper::restore`], with the tensors apart from the rest.
    pub(super) fn restore_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        if state.rule != self.rule.name() {
            return Err(self.foreign(format!("the state is one of {}", state.rule)));
        }
        if state.steps >= MOST_UPDATES {
            return Err(self.foreign(format!("{} steps are no count", state.steps)));
        }
        if let Some((scale, _)) = state.loss_scale
            && !((scale as f32).is_normal() && scale > 0.0)
        {
            return Err(self.foreign(format!("the loss scale is {scale}")));
        }
        let layout = self.store.layout()?;
        let numbers: HashMap<&str, usize> =
            layout.iter().enumerate().map(|(number, place)| (&*place.name, number)).collect();
        let mut updates = vec![None; layout.len()];
        for (name, count) in &state.updates {
            let number = numbers.get(&**name).ok_or_else(|| self.foreign(format!("there is no parameter `{name}`")))?;
            if *count >= MOST_UPDATES {
                return Err(self.foreign(format!("{count} updates of `{name}` are no count")));
            }
            if updates[*number].replace(*count).is_some() {
                return Err(self.foreign(format!("the updates of `{name}` are there twice")));
            }
        }
        let updates: Vec<u64> = updates.into_iter().map(Option::unwrap_or_default).collect();
        // Everything is checked before anything is written.
        let exact = self.store.device().is_exact();
        let mut writes = vec![];
        for (moment, prefix) in self.rule.moments().iter().enumerate() {
            for (number, place) in layout.iter().enumerate() {
                if updates[number] == 0 {
                    writes.push((moment, number, None));
                    continue;
                }
                let name = format!("{prefix}.{}", place.name);
                let (shape, values) = tensors.get(&*name).ok_or_else(|| self.foreign(format!("it lacks `{name}`")))?;
                if *shape != place.shape {
                    return Err(self.foreign(format!("`{name}` has shape {shape}, not {}", place.shape)));
                }
                let sound = values.check(DType::F32, exact, self.demand(prefix), 0);
                sound.map_err(|why| self.foreign(format!("`{name}` {why}")))?;
                writes.push((moment, number, Some(values)));
            }
        }
        if writes.iter().filter(|write| write.2.is_some()).count() < tensors.len() {
            return Err(self.foreign(self.unknown(&numbers, &updates, tensors)));
        }
        let lr = self.lr();
        self.rule.set_lr(state.lr);
        // What steps before this one have still to report is undone with them.
        let settled = self.prepare().and_then(|_| match self.store.settled() {
            Err(Error::NonFinite { .. } | Error::LossScale { .. }) => Ok(()),
            other => other,
        });
        if let Err(error) = settled {
            self.rule.set_lr(lr);
            return Err(error);
        }
        let device = &self.store.device().clone();
        writes.sort_by_key(|&(moment, number, _)| (layout[number].chunk, moment, layout[number].offset));
        let mut writer = Writer::new(device, BLOCK);
        for (moment, number, values) in writes {
            let place = &layout[number];
            let arena = &self.moments[place.chunk][moment];
            match values {
                Some(values) => writer.put(arena, place.offset, values)?,
                None => writer.put_zeros(arena, place.offset, place.shape.elements())?,
            }
        }
        writer.finish()?;
        if let Some(tally) = &mut self.tally {
            tally.write_counts(device, &updates)?;
            if let Some((scale, good)) = state.loss_scale
                && self.scaling != Some(None)
            {
                tally.fit(device, Some(self.scaling.flatten().unwrap_or_default()), layout.len())?;
                tally.scale.write(0, &[scale, good as f64])?;
            }
        }
        let mut known = HashMap::new();
        for (history, count) in self.histories.iter_mut().zip(&updates) {
            let next = known.len();
            *history = *known.entry(*count).or_insert(next);
        }
        self.gathered = vec![false; layout.len()];
        self.submitted = state.steps;
        self.author = Arc::new(Author::new(self.store.state(), self.rule.name(), self.at));
        Ok(())
    }

    /// What is wrong with a tensor that nothing was made of.
    fn unknown(&self, numbers: &HashMap<&str, usize>, updates: &[u64], tensors: &StateTensors<'_>) -> String {
        let mut names: Vec<&str> = tensors.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let known = |moment: &&str| {
                let parameter = name.strip_prefix(moment)?.strip_prefix('.')?;
                numbers.get(parameter).map(|&number| updates[number])
            };
            match self.rule.moments().iter().find_map(known) {
                Some(0) => return format!("it has `{name}`, but no updates of that parameter"),
                Some(_) => {}
                None => {
                    return format!("it has `{name}`, which {} with these settings does not keep", self.rule.name());
                }
            }
        }
        "it has tensors that nothing is made of".into()
    }
}
