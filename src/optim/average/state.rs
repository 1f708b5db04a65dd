//! What a resumed run needs of an average, to the host and back.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;

use super::{Average, Kind, LANES, Shared};
use crate::arena::Arena;
use crate::dtype::DType;
use crate::error::{Error, Problem, Result};
use crate::optim::state::{InPlace, StateTensors};
use crate::optim::tally::{MOST_UPDATES, count_of, word_of};
use crate::packed::{Demand, Packed};
use crate::params::BLOCK;
use crate::shape::Shape;
use crate::transfer::{Place, Reader, Writer};

/// State of an average on the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AverageState {
    /// What is averaged: `ema`, `swa`, `last 5`.
    pub kind: String,
    /// Steps that it has followed; refused and skipped ones are none.
    pub steps: u64,
    /// Weights taken of each parameter that any were taken of.
    pub counts: Vec<(String, u64)>,
    /// Name, shape and values of each average (`conv1.weight`), or of each copy (`3.conv1.weight`).
    pub tensors: Vec<(String, Shape, Vec<f64>)>,
}

/// An [`AverageState`] whose tensors were left where they are, for checkpoints.
pub(crate) struct AverageInPlace {
    /// All but the tensors.
    pub state: AverageState,
    pub tensors: Vec<InPlace>,
}

/// A state that fits an average: what is to be written.
pub(crate) struct Fitting<'a> {
    steps: u64,
    counts: Vec<u64>,
    writes: Vec<(Arc<Arena>, usize, &'a Packed<'a>)>,
}

impl Kind {
    fn name(self) -> String {
        match self {
            Kind::Ema { .. } => "ema".into(),
            Kind::Swa => "swa".into(),
            Kind::Last(copies) => format!("last {copies}"),
        }
    }

    /// Copies that there are after so many weights; `None` for an average, which is one tensor.
    fn copies(self, count: u64) -> Option<usize> {
        match self {
            Kind::Last(copies) => Some(copies.min(usize::try_from(count).unwrap_or(copies))),
            Kind::Ema { .. } | Kind::Swa => None,
        }
    }

    /// Names of what is kept of a parameter after so many weights.
    fn names(self, parameter: &str, count: u64) -> Vec<String> {
        match self.copies(count) {
            _ if count == 0 => vec![],
            Some(copies) => (0..copies).map(|i| format!("{i}.{parameter}")).collect(),
            None => vec![parameter.to_string()],
        }
    }
}

impl Average {
    /// Everything that a resumed run needs, on the host. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Value`] for settings that cannot be used or while an average is in the parameters' place,
    /// [`Error::NonFinite`] of an earlier step, or what reading met.
    #[track_caller]
    pub fn state(&self) -> Result<AverageState> {
        let AverageInPlace { mut state, tensors } = self.state_in_place()?;
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

    /// Continues from [`Average::state`].
    ///
    /// # Errors
    /// [`Error::Value`] if it is another kind's or another model's, has what this one does not keep or lacks what it does,
    /// or holds what is not finite; also while an average is in the parameters' place. Nothing has changed then.
    #[track_caller]
    pub fn set_state(&self, state: &AverageState) -> Result<()> {
        let mut tensors = StateTensors::new();
        for (name, shape, values) in &state.tensors {
            let doubled = tensors.insert(name, (*shape, Packed::of(values))).is_some();
            if doubled || values.len() != shape.elements() {
                let why = if doubled { "is there twice" } else { "has another number of values than its shape" };
                return Err(self.0.foreign(format!("`{name}` {why}")));
            }
        }
        let fitting = self.fitting(state, &tensors)?;
        self.restore(fitting)
    }

    /// [`Average::state`] with the tensors left where they are.
    #[track_caller]
    pub(crate) fn state_in_place(&self) -> Result<AverageInPlace> {
        let shared = &*self.0;
        let _gate = shared.store.state().enter();
        shared.store.state().check_own("state", Location::caller())?;
        shared.fit()?;
        shared.store.settled()?;
        let (memory, kind) = (shared.memory(), shared.settings().kind);
        let (steps, counts) = shared.counts()?;
        let mut state = AverageState { kind: kind.name(), steps, ..AverageState::default() };
        let mut tensors = vec![];
        for (place, &count) in memory.layout().iter().zip(&counts).filter(|(_, count)| **count > 0) {
            state.counts.push((place.name.to_string(), count));
            let copies = kind.copies(count).unwrap_or(1);
            for (name, (arena, offset)) in kind.names(&place.name, count).into_iter().zip(memory.places(place, copies))
            {
                let place = InPlace {
                    name,
                    shape: place.shape,
                    place: Place::Arena(arena.clone(), offset),
                    demand: Demand::Finite,
                };
                tensors.push((arena.id, offset, place));
            }
        }
        // As they lie, so that they are read in one go.
        tensors.sort_by_key(|(arena, offset, _)| (*arena, *offset));
        Ok(AverageInPlace { state, tensors: tensors.into_iter().map(|(_, _, place)| place).collect() })
    }

    /// Checks a state, and changes nothing but for making what is missing.
    #[track_caller]
    pub(crate) fn fitting<'a>(&self, state: &AverageState, tensors: &'a StateTensors<'a>) -> Result<Fitting<'a>> {
        let shared = &*self.0;
        shared.store.state().check_own("set_state", Location::caller())?;
        shared.fit()?;
        let (memory, kind) = (shared.memory(), shared.settings().kind);
        if state.kind != kind.name() {
            return Err(shared.foreign(format!("the state is one of `{}`, not of `{}`", state.kind, kind.name())));
        }
        if state.steps >= MOST_UPDATES {
            return Err(shared.foreign(format!("{} steps are no count", state.steps)));
        }
        let mut known = HashMap::new();
        for (name, count) in &state.counts {
            if *count == 0 || *count > state.steps {
                return Err(
                    shared.foreign(format!("{count} weights of `{name}` are no count of {} steps", state.steps))
                );
            }
            if known.insert(&**name, *count).is_some() {
                return Err(shared.foreign(format!("the count of `{name}` is there twice")));
            }
        }
        let counts: Vec<u64> =
            memory.layout().iter().map(|place| known.remove(&*place.name).unwrap_or_default()).collect();
        if let Some(name) = known.keys().min() {
            return Err(shared.foreign(format!("there is no parameter `{name}`")));
        }
        let exact = shared.store.device().is_exact();
        let mut writes = vec![];
        for (place, &count) in memory.layout().iter().zip(&counts) {
            let copies = kind.copies(count).unwrap_or(1);
            for (name, (arena, offset)) in kind.names(&place.name, count).iter().zip(memory.places(place, copies)) {
                let found = tensors.get(&**name);
                let (shape, values) = found.ok_or_else(|| shared.foreign(format!("it lacks `{name}`")))?;
                if *shape != place.shape {
                    return Err(shared.foreign(format!("`{name}` has shape {shape}, not {}", place.shape)));
                }
                let sound = values.check(DType::F32, exact, Demand::Finite, 0);
                sound.map_err(|why| shared.foreign(format!("`{name}` {why}")))?;
                writes.push((arena, offset, values));
            }
        }
        if writes.len() < tensors.len() {
            let named = |place: &crate::params::Placed, count| kind.names(&place.name, count);
            let taken: Vec<String> =
                memory.layout().iter().zip(&counts).flat_map(|(place, &count)| named(place, count)).collect();
            let unknown = tensors.keys().filter(|name| !taken.iter().any(|taken| taken == **name)).min();
            return Err(shared.foreign(format!("it has `{}`, which is not kept here", unknown.unwrap_or(&""))));
        }
        writes.sort_by_key(|(arena, offset, _)| (arena.id, *offset));
        Ok(Fitting { steps: state.steps, counts, writes })
    }

    /// Puts a state in place.
    pub(crate) fn restore(&self, Fitting { steps, counts, writes }: Fitting<'_>) -> Result<()> {
        let shared = &*self.0;
        let _gate = shared.store.state().enter();
        let device = shared.store.device();
        let mut writer = Writer::new(device, BLOCK);
        for (arena, offset, values) in writes {
            writer.put(&arena, offset, values)?;
        }
        writer.finish()?;
        let all = std::iter::repeat_n(steps, LANES).chain(counts);
        let words: Vec<f64> = all.map(|count| word_of(device, count)).collect();
        shared.memory().counts()?.write(0, &words)
    }
}

impl Shared {
    fn foreign(&self, what: String) -> Error {
        self.refuse(Problem::Value(what, "load it into the average and the model that it was saved from"))
    }

    /// Steps so far, and the weights taken of each parameter. Waits for the device.
    fn counts(&self) -> Result<(u64, Vec<u64>)> {
        let memory = self.memory();
        let arena = memory.counts()?;
        let words = arena.read(0, LANES + memory.layout().len())?;
        let count = |word: &f64| count_of(self.store.device(), *word);
        Ok((count(&words[0]), words[LANES..].iter().map(count).collect()))
    }
}
