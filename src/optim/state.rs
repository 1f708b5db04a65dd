//! What a resumed run needs of an optimizer, to the host and back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::tally::MOST_UPDATES;
use super::{Optimizer, Rule, Stepper};
use crate::engine::Author;
use crate::error::Result;
use crate::ops::Problem;
use crate::shape::Shape;

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

impl<R: Rule> Stepper<R> {
    pub(super) fn saved(&self) -> Result<OptimizerState> {
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
                let scale = tally.scaling.map(|_| tally.scale.read(device, 0, 2)).transpose()?;
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
        for (place, &updates) in layout.iter().zip(&counts) {
            if updates > 0 {
                state.updates.push((place.name.to_string(), updates));
            }
        }
        for (chunk, moments) in self.moments.iter().enumerate() {
            for (name, arena) in self.rule.moments().iter().zip(moments) {
                let all = arena.read(device, 0, arena.elements)?;
                for (place, &updates) in layout.iter().zip(&counts) {
                    if place.chunk == chunk && updates > 0 {
                        let values = all[place.offset..place.offset + place.shape.elements()].to_vec();
                        state.tensors.push((format!("{name}.{}", place.name), place.shape, values));
                    }
                }
            }
        }
        Ok(state)
    }

    pub(super) fn restore(&mut self, state: &OptimizerState) -> Result<()> {
        let refuse = |what: String| {
            self.refuse(Problem::Value(what, "load it into the optimizer and the model that it was saved from"))
        };
        if state.rule != self.rule.name() {
            return Err(refuse(format!("the state is one of {}", state.rule)));
        }
        let is_count = |count: u64| count < MOST_UPDATES;
        if !is_count(state.steps) || !state.updates.iter().all(|(_, count)| is_count(*count)) {
            return Err(refuse(format!("{} steps, and updates of {:?}, are no counts", state.steps, state.updates)));
        }
        if let Some((scale, _)) = state.loss_scale
            && !((scale as f32).is_normal() && scale > 0.0)
        {
            return Err(refuse(format!("the loss scale is {scale}")));
        }
        let layout = self.store.layout()?;
        let mut updates = vec![0; layout.len()];
        for (name, count) in &state.updates {
            let number = layout.iter().position(|place| *place.name == **name);
            let number = number.ok_or_else(|| refuse(format!("there is no parameter `{name}`")))?;
            updates[number] = *count;
        }
        // Everything is checked before anything is written.
        let (mut writes, mut taken) = (vec![], HashSet::new());
        for (moment, prefix) in self.rule.moments().iter().enumerate() {
            for (number, place) in layout.iter().enumerate().filter(|(number, _)| updates[*number] > 0) {
                let name = format!("{prefix}.{}", place.name);
                let found = state.tensors.iter().find(|(known, ..)| *known == name);
                let (_, shape, values) = found.ok_or_else(|| refuse(format!("it lacks `{name}`")))?;
                if *shape != place.shape || values.len() != shape.elements() {
                    return Err(refuse(format!("`{name}` has shape {shape}, not {}", place.shape)));
                }
                writes.push((moment, number, values));
                taken.insert(name);
            }
        }
        if let Some((name, ..)) = state.tensors.iter().find(|(name, ..)| !taken.contains(name)) {
            return Err(refuse(format!("it has `{name}`, which this optimizer does not keep")));
        }
        // An update that is still to be refused is one of the state from before.
        self.store.settled()?;
        self.prepare()?;
        let device = &self.store.device().clone();
        for (chunk, moments) in self.moments.iter().enumerate() {
            for (moment, arena) in moments.iter().enumerate() {
                let mut all = vec![0.0; arena.elements];
                for &(_, number, values) in writes.iter().filter(|write| write.0 == moment) {
                    if layout[number].chunk == chunk {
                        all[layout[number].offset..][..values.len()].copy_from_slice(values);
                    }
                }
                arena.write(device, 0, &all)?;
            }
        }
        if let Some(tally) = &mut self.tally {
            tally.write_counts(device, &updates)?;
            if let Some((scale, good)) = state.loss_scale
                && self.scaling != Some(None)
            {
                tally.fit(device, Some(self.scaling.flatten().unwrap_or_default()), layout.len())?;
                tally.scale.write(device, 0, &[scale, good as f64])?;
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
        self.rule.set_lr(state.lr);
        Ok(())
    }
}
