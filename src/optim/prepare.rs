//! What a step needs before it can be planned: settings that can be used, and arenas.

use super::clip;
use super::factors;
use super::measure;
use super::orthogonal;
use super::places::moment_places;
use super::rounds::Room;
use super::rule::{Beside, Moment};
use super::ruled::Ruled;
use super::scale::LossScale;
use super::settings::check_number;
use super::stepper::Stepper;
use super::tally::{Tally, word_of};
use crate::dtype::Precision;
use crate::error::{Problem, Result};
use crate::params::{BLOCK, Chunk};
use crate::schedule::Schedule;

impl<R: ?Sized> Stepper<R> {
    /// The first setting that cannot be used.
    fn check(&self) -> Result<(), Problem> {
        if self.rules.is_empty() {
            let what = "an optimizer without a rule".into();
            return Err(Problem::Value(
                what,
                "give each group one by Optimizers::group, and the others by Optimizers::rest",
            ));
        }
        self.options.check()?;
        for Ruled { rule, lr, schedule, momentum, .. } in &self.rules {
            rule.check()?;
            check_number("lr", *lr)?;
            check_number("weight_decay", rule.weight_decay())?;
            schedule.iter().chain(momentum).try_for_each(Schedule::check)?;
        }
        let known = self.store.groups();
        let is_known = |name: &str| known.iter().any(|group| **group == *name);
        let named = self.rules.iter().filter_map(|ruled| ruled.groups.as_ref()).flatten();
        let is_twice = |(i, ruled): (usize, &Ruled)| self.rules[..i].iter().any(|other| other.groups == ruled.groups);
        if self.rules.iter().enumerate().any(is_twice) {
            return Err(Problem::Value("two rules for the same groups".into(), "give each group one rule"));
        }
        if self.begun != 0 && self.begun != self.rules.len() {
            let what = "a rule that was added after the first step".into();
            return Err(Problem::Value(what, "give all rules before it, or make a new optimizer"));
        }
        for name in self.groups.iter().map(|(name, _)| name).chain(named) {
            if !is_known(name) {
                let what = format!("settings for group `{name}`, which the store does not have");
                return Err(Problem::Value(what, "make the group with Path::group, or correct its name"));
            }
        }
        for (_, settings) in &self.groups {
            check_number("lr_scale", settings.lr_scale)?;
            check_number("weight_decay", settings.weight_decay.unwrap_or(0.0))?;
        }
        Ok(())
    }

    /// Makes the arenas that are missing.
    pub(super) fn prepare(&mut self) -> Result<Vec<Chunk>> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        self.check().map_err(|problem| self.refuse(problem))?;
        self.store.return_weights()?;
        if self.phase.is_none() {
            self.move_back()?;
        }
        self.begun = self.rules.len();
        let known = self.store.groups();
        let chunks = self.store.chunks(true)?;
        let layout = self.store.layout()?;
        let rules = self.rules_of_groups();
        let device = self.store.device().clone();
        while let Some(chunk) = chunks.get(self.moments.len()) {
            let group = known.get(chunk.group).map_or("", |name| name);
            let Some(rule) = rules.get(chunk.group).copied().flatten() else {
                let what = format!("no rule takes the parameters of group `{group}`");
                return Err(self.refuse(Problem::Value(what, "give the group one, or all others by Optimizers::rest")));
            };
            let (at, rule) = (self.moments.len(), self.rules[rule].rule.clone());
            let own: Vec<usize> = (0..layout.len()).filter(|&number| layout[number].chunk == at).collect();
            for &number in &own {
                rule.takes(&layout[number].shape).map_err(|problem| self.refuse(problem))?;
            }
            let moments = rule.moments();
            let (places, lengths) = moment_places(&*rule, &own, &layout, chunk.values.elements);
            self.places.resize(layout.len(), vec![]);
            own.iter().zip(places).for_each(|(&number, places)| self.places[number] = places);
            let all = || own.iter().map(|&number| &layout[number]);
            let room = match rule.beside() {
                Beside::Nothing => None,
                Beside::Factors => Some(factors::room(all())),
                Beside::Orthogonal(_) => Some(orthogonal::room(all())),
            };
            let scratch = room.map(|room| device.arena(&format!("scratch of {group}"), room.next_multiple_of(BLOCK)));
            self.scratch.push(scratch.transpose()?);
            let arena =
                |(moment, length): (&Moment, usize)| device.arena(&format!("{} of {group}", moment.name), length);
            self.moments.push(moments.iter().zip(lengths).map(arena).collect::<Result<_>>()?);
            self.partials = None;
        }
        if self.partials.is_none() {
            // One for each arena, and for each parameter whose gradient is read where it is.
            let ranges = chunks.iter().map(|chunk| chunk.values.elements);
            let count: usize =
                ranges.chain(layout.iter().map(|place| place.shape.elements())).map(clip::partials).sum();
            self.partials = Some(device.arena("partial norms", count.max(1) * 2)?);
        }
        Room::fit(&mut self.room, &device, &self.options, &layout)?;
        if self.options.noise.is_some() && self.noisy_steps.is_none() {
            let steps = device.arena("steps with noise", 64)?;
            // Steps without noise are known to the end before those with it are counted.
            if self.submitted > 0 {
                device.finish()?;
            }
            steps.write(0, &[word_of(&device, self.steps_done())])?;
            self.noisy_steps = Some(steps);
        }
        if self.rules.iter().any(|ruled| ruled.rule.measures()) {
            measure::Measured::fit(&mut self.measured, &device, &chunks, &layout)?;
        }
        if self.rules.iter().any(|ruled| !ruled.rule.kept().is_empty()) {
            let room = 4 * layout.len().max(1).next_multiple_of(64);
            match &self.kept {
                Some(kept) if kept.elements >= room => {}
                Some(kept) => {
                    let new = device.arena("kept numbers", room)?;
                    new.copy_from(kept)?;
                    self.kept = Some(new);
                }
                None => self.kept = Some(device.arena("kept numbers", room)?),
            }
        }
        let mixed = || (self.store.precision() == Precision::Mixed).then(LossScale::default);
        let scaling = self.scaling.unwrap_or_else(mixed);
        if let Some(settings) = scaling {
            settings.check().map_err(|problem| self.refuse(problem))?;
        }
        match &mut self.tally {
            Some(tally) => tally.fit(&device, scaling, layout.len())?,
            None => self.tally = Some(Tally::new(&device, scaling, layout.len())?),
        }
        self.gathered.resize(layout.len(), false);
        // Those that are new have a history of their own.
        let next = self.histories.iter().max().map_or(0, |last| last + 1);
        self.histories.resize(layout.len(), next);
        Ok(chunks)
    }
}
