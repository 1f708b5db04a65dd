//! What a resumed run needs of an optimizer, to the host and back.

use std::collections::HashMap;
use std::sync::Arc;

use super::Stepper;
use super::optimizer::Optimizer;
use super::places::MomentPlace;
use super::rule::Moment;
use super::tally::{MOST_UPDATES, word_of};
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
    /// Name of the optimizer's rule; of several, joined by `+`.
    pub rule: String,
    /// Learning rate of the first rule.
    pub lr: f64,
    /// Learning rates of the others.
    pub more_lrs: Vec<f64>,
    /// Number of steps.
    pub steps: u64,
    /// Number of updates of each parameter that has had any.
    pub updates: Vec<(String, u64)>,
    /// What rules keep for each parameter besides tensors, where they do.
    pub kept: Vec<(String, [f64; 4])>,
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

/// A state that fits an optimizer.
struct Fitting<'a> {
    /// Updates of each parameter.
    updates: Vec<u64>,
    /// A moment, a parameter, and the values; zeros for none.
    writes: Vec<(usize, usize, Option<&'a Packed<'a>>)>,
    /// What is kept for each parameter.
    kept: Vec<Option<[f64; 4]>>,
    /// The rate of each rule.
    lrs: Vec<f64>,
}

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

fn demand(moment: Moment) -> Demand {
    if moment.never_negative { Demand::FiniteNotNegative } else { Demand::Finite }
}

impl<R: ?Sized + Send + Sync> Stepper<R> {
    pub(super) fn saved(&self) -> Result<OptimizerState> {
        let StateInPlace { mut state, tensors } = self.saved_in_place()?;
        let mut reader = Reader::default();
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
        if self.is_gathering() {
            let what = "the state was asked for between accumulate and step".into();
            return Err(self.refuse(Problem::Value(what, "ask for it after a step")));
        }
        self.store.state().check_own("state", self.at)?;
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
            rule: self.name(),
            lr: self.lr(),
            more_lrs: self.rules.iter().skip(1).map(|ruled| ruled.lr(self.steps_done())).collect(),
            steps: self.steps(),
            updates: vec![],
            kept: vec![],
            loss_scale,
            tensors: vec![],
        };
        let updated = || layout.iter().zip(&counts).filter(|(_, updates)| **updates > 0);
        state.updates.extend(updated().map(|(place, &updates)| (place.name.to_string(), updates)));
        if let Some(kept) = &self.kept {
            let numbers = kept.read(0, kept.elements)?;
            let keeps = self.keeps(&layout)?;
            let of = |number: usize| std::array::from_fn(|k| numbers.get(4 * number + k).copied().unwrap_or(0.0));
            let own = (0..layout.len()).filter(|&number| counts[number] > 0 && keeps[number]);
            state.kept = own.map(|number| (layout[number].name.to_string(), of(number))).collect();
        }
        // As they lie, so that they are read in one go.
        let moments = self.moments_of_chunks()?;
        let mut kept: Vec<_> = (0..layout.len())
            .filter(|&number| counts[number] > 0)
            .flat_map(|number| {
                let chunk = layout[number].chunk;
                let own = moments[chunk].iter().zip(&self.places[number]).enumerate();
                own.filter_map(move |(k, (moment, place))| {
                    place.map(|place| ((chunk, k, place.0), *moment, place, number))
                })
            })
            .collect();
        kept.sort_by_key(|&(order, ..)| order);
        let tensor = |((chunk, k, _), moment, (offset, shape), number): (_, Moment, MomentPlace, usize)| {
            let arena = self.moments.get::<usize>(chunk)?.get::<usize>(k)?;
            Some(InPlace {
                name: format!("{}.{}", moment.name, layout[number].name),
                shape,
                place: Place::Arena(arena.clone(), offset),
                demand: demand(moment),
            })
        };
        let tensors = kept.into_iter().filter_map(tensor).collect();
        Ok(StateInPlace { state, tensors })
    }

    /// For each chunk of the store what its rule keeps.
    fn moments_of_chunks(&self) -> Result<Vec<Vec<Moment>>> {
        let rules = self.rules_of_groups();
        let of = |group: usize| rules[group].map_or(vec![], |rule| self.rules[rule].rule.moments());
        Ok(self.store.chunks(false)?.iter().map(|chunk| of(chunk.group)).collect())
    }

    /// For each parameter whether its rule keeps numbers.
    fn keeps(&self, layout: &[Placed]) -> Result<Vec<bool>> {
        let rules = self.rules_of_groups();
        let chunks = self.store.chunks(false)?;
        let keeps = |place: &Placed| {
            rules[chunks[place.chunk].group].is_some_and(|rule| !self.rules[rule].rule.kept().is_empty())
        };
        Ok(layout.iter().map(keeps).collect())
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

    /// What a state brings, if it fits; nothing has changed then.
    fn fitting<'a>(&mut self, state: &OptimizerState, tensors: &'a StateTensors<'_>) -> Result<Fitting<'a>> {
        let is_new = self.tally.is_none();
        let fitting = self.try_fitting(state, tensors);
        // A loss scale that no step has used is no state yet.
        if is_new {
            self.tally = None;
        }
        fitting
    }

    fn try_fitting<'a>(&mut self, state: &OptimizerState, tensors: &'a StateTensors<'_>) -> Result<Fitting<'a>> {
        if state.rule != self.name() {
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
        let exact = self.store.device().is_exact();
        let mut writes = vec![];
        let moments = self.moments_of_chunks()?;
        // Where they are is known once the arenas are.
        self.prepare()?;
        for (number, place) in layout.iter().enumerate() {
            for (k, (moment, at)) in moments[place.chunk].iter().zip(&self.places[number]).enumerate() {
                let Some((_, own)) = at else { continue };
                if updates[number] == 0 {
                    writes.push((k, number, None));
                    continue;
                }
                let name = format!("{}.{}", moment.name, place.name);
                let (shape, values) = tensors.get(&*name).ok_or_else(|| self.foreign(format!("it lacks `{name}`")))?;
                if shape != own {
                    return Err(self.foreign(format!("`{name}` has shape {shape}, not {own}")));
                }
                let sound = values.check(DType::F32, exact, demand(*moment), 0);
                sound.map_err(|why| self.foreign(format!("`{name}` {why}")))?;
                writes.push((k, number, Some(values)));
            }
        }
        if writes.iter().filter(|write| write.2.is_some()).count() < tensors.len() {
            return Err(self.foreign(self.unknown(&numbers, &updates, tensors)));
        }
        let keeps = self.keeps(&layout)?;
        let mut kept = vec![None; layout.len()];
        for (name, own) in &state.kept {
            let number = numbers.get(&**name).filter(|number| keeps[**number] && updates[**number] > 0);
            let number = *number.ok_or_else(|| self.foreign(format!("nothing is kept for a parameter `{name}`")))?;
            if own.iter().any(|x| !x.is_finite()) || kept[number].replace(*own).is_some() {
                return Err(self.foreign(format!("what is kept for `{name}` is not finite, or there twice")));
            }
        }
        if let Some(number) = (0..layout.len()).find(|&i| keeps[i] && updates[i] > 0 && kept[i].is_none()) {
            return Err(self.foreign(format!("it lacks what is kept for `{}`", layout[number].name)));
        }
        let lrs: Vec<f64> = std::iter::once(state.lr).chain(state.more_lrs.iter().copied()).collect();
        if lrs.len() != self.rules.len() {
            return Err(self.foreign(format!("it has {} learning rates", lrs.len())));
        }
        if let Some(lr) = lrs.iter().find(|lr| !(lr.is_finite() && **lr >= 0.0)) {
            return Err(self.foreign(format!("lr is {lr}")));
        }
        Ok(Fitting { updates, writes, kept, lrs })
    }

    /// What [`Stepper::restore_packed`] would refuse; nothing of the state changes.
    pub(super) fn check_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.fitting(state, tensors)?;
        self.store.device().finish()
    }

    /// [`Stepper::restore`], with the tensors apart from the rest.
    pub(super) fn restore_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        // Everything is checked before anything is written.
        let Fitting { updates, mut writes, kept, lrs } = self.fitting(state, tensors)?;
        let layout = self.store.layout()?;
        let before: Vec<f64> = self.rules.iter().map(|ruled| ruled.lr).collect();
        self.rules.iter_mut().zip(lrs).for_each(|(ruled, lr)| ruled.lr = lr);
        // What steps before this one have still to report is undone with them.
        let settled = self.prepare().and_then(|_| match self.store.settled() {
            Err(Error::NonFinite { .. } | Error::LossScale { .. }) => Ok(()),
            other => other,
        });
        if let Err(error) = settled {
            self.rules.iter_mut().zip(before).for_each(|(ruled, lr)| ruled.lr = lr);
            return Err(error);
        }
        let device = &self.store.device().clone();
        let at = |moment: usize, number: usize| self.places[number][moment].unwrap_or((0, layout[number].shape));
        writes.sort_by_key(|&(moment, number, _)| (layout[number].chunk, moment, at(moment, number).0));
        let mut writer = Writer::new(device, BLOCK);
        for (moment, number, values) in writes {
            let place = &layout[number];
            let arena = &self.moments[place.chunk][moment];
            let (offset, shape) = at(moment, number);
            match values {
                Some(values) => writer.put(arena, offset, values)?,
                None => writer.put_zeros(arena, offset, shape.elements())?,
            }
        }
        writer.finish()?;
        if let Some(arena) = &self.kept {
            arena.write(0, &kept.iter().flat_map(|own| own.unwrap_or_default()).collect::<Vec<_>>())?;
        }
        if let Some(steps) = &self.noisy_steps {
            steps.write(0, &[word_of(device, state.steps)])?;
        }
        if let Some(tally) = &mut self.tally {
            tally.write_counts(device, &updates)?;
            if let Some((scale, good)) = state.loss_scale
                && self.scaling != Some(None)
            {
                tally.fit(device, Some(self.scaling.flatten().unwrap_or_default()), layout.len())?;
                tally.scale.write(0, &[scale, good as f64])?;
            }
        }
        // Equal counts may have come at different steps, with other rates: what is kept tells them apart.
        let mut known = HashMap::new();
        for (number, history) in self.histories.iter_mut().enumerate() {
            let next = known.len();
            let kept = kept[number].unwrap_or_default().map(f64::to_bits);
            *history = *known.entry((updates[number], kept)).or_insert(next);
        }
        self.gathered = vec![false; layout.len()];
        self.submitted = state.steps;
        let name = self.rules.first().map_or("optimizer", |ruled| ruled.rule.name());
        self.author = Arc::new(Author::new(self.store.state(), name, self.at));
        Ok(())
    }

    /// What is wrong with a tensor that nothing was made of.
    fn unknown(&self, numbers: &HashMap<&str, usize>, updates: &[u64], tensors: &StateTensors<'_>) -> String {
        let mut names: Vec<&str> = tensors.keys().copied().collect();
        names.sort_unstable();
        for name in names {
            let known = |moment: &Moment| {
                let parameter = name.strip_prefix(moment.name)?.strip_prefix('.')?;
                numbers.get(parameter).map(|&number| updates[number])
            };
            let moments = self.rules.iter().flat_map(|ruled| ruled.rule.moments());
            match moments.collect::<Vec<_>>().iter().find_map(known) {
                Some(0) => return format!("it has `{name}`, but no updates of that parameter"),
                Some(_) => {}
                None => return format!("it has `{name}`, which {} with these settings does not keep", self.name()),
            }
        }
        "it has tensors that nothing is made of".into()
    }
}
