//! Runs rules over a store: gradients, clipping, groups, which parameters a loss has reached.

use std::collections::HashMap;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::follow::Follower;
use super::given;
use super::measure;
use super::noise::Noise;
use super::optimizer::{GradientSource, Optimizer};
use super::pass::{self, Pass};
use super::places::MomentPlace;
use super::rounds::Room;
use super::rule::{Now, Rule};
use super::ruled::Ruled;
use super::scale::LossScale;
use super::settings::{GroupSettings, Options, check_number};
use super::sharp::{Phase, Sharp};
use super::state::{OptimizerState, StateInPlace, StateTensors};
use super::tally::Tally;
use super::together::Together;
use crate::arena::Arena;
use crate::costs::Costs;
use crate::distributed::World;
use crate::engine::{self, Author, Gradients, Stepped};
use crate::error::{Error, Problem, Result};
use crate::kernel::Capabilities;
use crate::params::{Param, ParamStore};
use crate::plan::Plan;
use crate::target::Target;
use crate::tensor::Tensor;
use crate::wait::instead as named;

/// Runs a [`Rule`], or several, over a [`ParamStore`].
pub struct Stepper<R: ?Sized> {
    /// The only rule, if its type is known.
    own: Option<Arc<R>>,
    pub(super) rules: Vec<Ruled>,
    /// How many of them there were at the first step; 0 before it.
    pub(super) begun: usize,
    pub(super) options: Options,
    /// What was wrong with how it was made.
    pub(super) refused: Option<Error>,
    /// Settings of groups, by name.
    pub(super) groups: Vec<(String, GroupSettings)>,
    pub(super) followers: Vec<Arc<dyn Follower>>,
    pub(super) store: ParamStore,
    pub(super) at: &'static Location<'static>,
    /// Steps submitted so far, refused ones included.
    pub(super) submitted: u64,
    /// What steps under way report to.
    pub(super) author: Arc<Author>,
    /// For each parameter a number that is equal for those that the same steps have updated.
    pub(super) histories: Vec<usize>,
    /// For each parameter: whether the gradient arena holds a part of the next step's gradient.
    pub(super) gathered: Vec<bool>,
    /// For each chunk of the store: its moments.
    pub(super) moments: Vec<Vec<Arc<Arena>>>,
    /// For each parameter: where its moments are.
    pub(super) places: Vec<Vec<Option<MomentPlace>>>,
    /// For each chunk what its rule computes in.
    pub(super) scratch: Vec<Option<Arc<Arena>>>,
    /// Four numbers a parameter that rules keep, if one does.
    pub(super) kept: Option<Arc<Arena>>,
    /// For each chunk of the store room for the average that its rule keeps, once it has been asked for.
    pub(super) averages: Vec<Arc<Arena>>,
    /// Sums that rules measure, if one does.
    pub(super) measured: Option<measure::Measured>,
    /// Sums over rows and parameters of gradients, if an option asks for them.
    pub(super) room: Option<Room>,
    /// Steps as the device counts them, where gradients get noise.
    pub(super) noisy_steps: Option<Arc<Arena>>,
    /// What steps of two passes have, and which pass is under way.
    pub(super) sharp: Option<Sharp>,
    pub(super) phase: Option<Phase>,
    /// Partial sums of the norm.
    pub(super) partials: Option<Arc<Arena>>,
    /// As which kernels are cut up, if not as the device at hand.
    pub(super) costs: Option<&'static Costs>,
    /// How losses are scaled: as chosen, else as the store's precision wants.
    pub(super) scaling: Option<Option<LossScale>>,
    pub(super) tally: Option<Tally>,
    /// The other ranks that it takes steps with.
    pub(super) together: Option<Together>,
}

impl<R: Rule> Stepper<R> {
    /// An optimizer of all parameters of `store`, present and later ones. A setting that cannot be used is reported by
    /// the first step.
    #[track_caller]
    pub fn new(store: &ParamStore, config: R) -> Self {
        let own = Arc::new(config);
        let rules = vec![Ruled::new(own.clone(), None)];
        Stepper { own: Some(own), ..Stepper::with(store, rules, Location::caller()) }
    }

    /// Its configuration. The learning rate there is the one that it began with.
    pub fn config(&self) -> &R {
        match &self.own {
            Some(own) => own,
            // `new` has set it.
            None => unreachable!("an optimizer of one rule has it"),
        }
    }
}

impl<R: ?Sized> Stepper<R> {
    pub(super) fn with(store: &ParamStore, rules: Vec<Ruled>, at: &'static Location<'static>) -> Self {
        let name = rules.first().map_or("optimizer", |ruled| ruled.rule.name());
        Stepper {
            author: Arc::new(Author::new(store.state(), name, at)),
            own: None,
            rules,
            begun: 0,
            options: Options::default(),
            refused: None,
            groups: vec![],
            followers: vec![],
            store: store.clone(),
            at,
            submitted: 0,
            histories: vec![],
            gathered: vec![],
            moments: vec![],
            places: vec![],
            scratch: vec![],
            kept: None,
            averages: vec![],
            room: None,
            noisy_steps: None,
            sharp: None,
            phase: None,
            partials: None,
            measured: None,
            costs: None,
            scaling: None,
            tally: None,
            together: None,
        }
    }

    pub(super) fn add_follower(&mut self, follower: Arc<dyn Follower>) {
        let same = |known: &Arc<dyn Follower>| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(&follower));
        if !self.followers.iter().any(same) {
            self.followers.push(follower);
        }
    }

    /// What is added to gradients, if anything is.
    fn noise(&self) -> Option<Noise<'_>> {
        let (seed, _) = self.store.draws().position();
        let steps = self.noisy_steps.as_ref()?;
        self.options.noise.map(|settings| Noise { settings, seed, steps })
    }

    pub(super) fn steps_done(&self) -> u64 {
        self.submitted - self.author.refused.load(Ordering::Acquire).min(self.submitted)
    }

    /// Names of its rules.
    pub(super) fn name(&self) -> String {
        let names: Vec<&str> = self.rules.iter().map(|ruled| ruled.rule.name()).collect();
        names.join("+")
    }

    fn label(&self) -> &'static str {
        self.rules.first().map_or("optimizer", |ruled| ruled.rule.name())
    }

    /// For each group of the store the number of its rule.
    pub(super) fn rules_of_groups(&self) -> Vec<Option<usize>> {
        let rule_of = |group: &Arc<str>| {
            let takers = self.rules.iter().enumerate().filter_map(|(i, ruled)| Some((ruled.takes(group)?, i)));
            takers.max_by_key(|&(early, i)| (early, std::cmp::Reverse(i))).map(|(_, i)| i)
        };
        self.store.groups().iter().map(rule_of).collect()
    }

    /// The settings of a group: its own, else those of the group above it.
    pub(super) fn settings_of(&self, group: &str) -> GroupSettings {
        let of = |name: &str| self.groups.iter().find(|(known, _)| known == name).map(|(_, settings)| *settings);
        let mut name = group;
        loop {
            if let Some(settings) = of(name) {
                return settings;
            }
            match name.rsplit_once('.') {
                Some((above, _)) => name = above,
                None => return GroupSettings::default(),
            }
        }
    }

    /// What the numbers of each group of the store depend on.
    pub(super) fn now(&self) -> Result<Vec<Now>> {
        let steps = self.steps_done();
        let now = |(group, rule): (&Arc<str>, Option<usize>)| match rule {
            Some(rule) => self.rules[rule].now(&self.settings_of(group), steps).map_err(|problem| self.refuse(problem)),
            None => Ok(Now { lr: 0.0, weight_decay: 0.0, momentum: None }),
        };
        self.store.groups().iter().zip(self.rules_of_groups()).map(now).collect()
    }

    /// Takes the kernels of a hardware GPU on a software driver too. For tests.
    #[doc(hidden)]
    pub fn as_on_hardware(&mut self) {
        self.costs = Some(Costs::of_a_gpu());
    }

    pub(super) fn refuse(&self, problem: Problem) -> Error {
        problem.at(self.label(), self.at)
    }

    /// What `run` makes of one pass.
    fn with_pass<T>(&mut self, update: bool, run: impl FnOnce(&Pass<'_>) -> Result<T>) -> Result<T> {
        let chunks = self.prepare()?;
        let layout = self.store.layout()?;
        let leaves = self.store.leaves()?;
        let missing = || Error::internal("an optimizer without its arenas");
        for follower in &self.followers {
            follower.prepare(&self.store)?;
        }
        let now = self.now()?;
        run(&Pass::new(pass::Parts {
            rules: &self.rules,
            rule_of_group: self.rules_of_groups(),
            now: &now,
            options: &self.options,
            followers: &self.followers,
            store: &self.store,
            layout: &layout,
            chunks: &chunks,
            leaves: &leaves,
            histories: &self.histories,
            gathered: &self.gathered,
            moments: &self.moments,
            places: &self.places,
            scratch: &self.scratch,
            kept: self.kept.as_ref(),
            measured: self.measured.as_ref(),
            room: self.room.as_ref(),
            noise: self.noise(),
            sharp: self.phase.zip(self.sharp.as_ref()),
            partials: self.partials.as_ref().ok_or_else(missing)?,
            number: self.submitted + 1,
            author: &self.author,
            update,
            costs: self.costs,
            has_met: self.together.as_ref().is_some_and(|together| together.ends),
            tally: self.tally.as_ref().ok_or_else(missing)?,
            reads: self.together.as_ref().map_or(&[], |together| &together.reads),
        }))
    }

    /// One pass over the gradients of a loss, or over those given for each parameter.
    #[track_caller]
    pub(super) fn pass(&mut self, source: GradientSource<'_>, update: bool) -> Result<()> {
        let at = Location::caller();
        let device = match source {
            GradientSource::Loss(loss) => loss.device().clone(),
            GradientSource::Given(_) => self.store.device().clone(),
        };
        let (reached, parts) = self.with_pass(update, |pass| {
            let given;
            let gradients = match source {
                GradientSource::Loss(loss) => Gradients::Of(loss),
                GradientSource::Given(all) => {
                    given = pass.members(all);
                    Gradients::Given(&given)
                }
            };
            let Stepped { reached, parts } = pass.step(gradients, |step| engine::step(step, &device, at))?;
            Ok((pass.by_parameter(&reached), parts))
        })?;
        if let Some(together) = &mut self.together {
            together.arriving = parts;
        }
        let mut updated = vec![false; self.histories.len()];
        for (number, reached) in reached {
            if reached && !update {
                self.gathered[number] = true;
            }
            updated[number] = reached || self.gathered[number];
        }
        if update && self.phase != Some(Phase::Moves) {
            self.part(&updated);
            self.gathered.fill(false);
            self.submitted += 1;
        }
        Ok(())
    }

    /// Parts the histories of parameters that this step has updated from those that it has not. Whether the device refuses it
    /// makes no difference: it counts for all of them, or for none.
    fn part(&mut self, updated: &[bool]) {
        let count = self.histories.iter().max().map_or(0, |last| last + 1);
        let mut known: Vec<Option<bool>> = vec![None; count];
        // Most steps part none.
        if self.histories.iter().zip(updated).all(|(&history, own)| known[history].get_or_insert(*own) == own) {
            return;
        }
        let mut numbers: HashMap<(usize, bool), usize> = HashMap::new();
        for (history, &updated) in self.histories.iter_mut().zip(updated) {
            let next = numbers.len();
            *history = *numbers.entry((*history, updated)).or_insert(next);
        }
    }

    /// The plan that a step on `loss` (with `update` false: a pass that only gathers gradients) would take on a device
    /// with `capabilities`. Nothing is run.
    ///
    /// # Errors
    /// The error that the loss carries, or what planning met.
    pub fn plan_for(&mut self, loss: &Tensor, update: bool, capabilities: &Capabilities, fusion: bool) -> Result<Plan> {
        let target = Target { capabilities: capabilities.clone(), ..Target::default() };
        self.plan_with(loss, update, &target, fusion)
    }

    /// [`Stepper::plan_for`], with variants forced or chosen.
    #[doc(hidden)]
    pub fn plan_with(&mut self, loss: &Tensor, update: bool, target: &Target, fusion: bool) -> Result<Plan> {
        let plan = |step: &engine::Step<'_>| engine::step_plan(loss, step, target, fusion);
        self.with_pass(update, |pass| pass.step(Gradients::Of(loss), plan))
    }
}

impl<R: ?Sized + Send + Sync> Optimizer for Stepper<R> {
    #[track_caller]
    fn step(&mut self, loss: &Tensor) -> Result<()> {
        self.own_pass(GradientSource::Loss(loss), true)
    }

    #[track_caller]
    fn accumulate(&mut self, loss: &Tensor) -> Result<()> {
        self.own_pass(GradientSource::Loss(loss), false)
    }

    #[track_caller]
    fn step_with(&mut self, gradients: Vec<(Param, Tensor)>) -> Result<()> {
        self.prepare()?;
        if gradients.is_empty() && self.is_shared() {
            return self.end_together();
        }
        let gradients = match &self.tally {
            // What is gathered is scaled, so these are too.
            Some(Tally { scaling: Some(_), leaf, .. }) => {
                gradients.into_iter().map(|(param, gradient)| (param, gradient * leaf)).collect()
            }
            _ => gradients,
        };
        let given = given::by_parameter(&self.store, gradients, Location::caller())?;
        self.own_pass(GradientSource::Given(&given), true)
    }

    fn distribute(&mut self, world: &World) -> Result<()> {
        self.join(world)
    }

    fn lr(&self) -> f64 {
        self.rules.first().map_or(0.0, |ruled| ruled.lr(self.steps_done()))
    }

    #[track_caller]
    fn set_lr(&mut self, lr: f64) -> Result<()> {
        let refuse = |what: &str, next| Err(Problem::Value(what.into(), next).at("set_lr", Location::caller()));
        if self.rules.iter().any(|ruled| ruled.schedule.is_some()) {
            return refuse("the learning rate follows a schedule", "change the schedule, or call end_schedule first");
        }
        check_number("lr", lr).map_err(|problem| problem.at("set_lr", Location::caller()))?;
        match &mut self.rules[..] {
            [ruled] => ruled.lr = lr,
            _ => return refuse("an optimizer of several rules has several rates", "give each a schedule"),
        }
        Ok(())
    }

    fn steps(&self) -> u64 {
        self.steps_done()
    }

    fn gradient_norm(&self) -> Result<f64> {
        match &self.tally {
            Some(tally) => Ok(named("gradient_norm", "gradient_norm_async", tally.status.read(0, 1))?[0]),
            None => Ok(0.0),
        }
    }

    fn store(&self) -> &ParamStore {
        &self.store
    }

    fn loss_scale(&self) -> Result<Option<f64>> {
        match &self.tally {
            Some(Tally { scaling: Some(_), scale, .. }) => {
                Ok(Some(named("loss_scale", "loss_scale_async", scale.read(0, 1))?[0]))
            }
            _ => Ok(None),
        }
    }

    fn state(&self) -> Result<OptimizerState> {
        named("state", "state_async", self.saved())
    }

    fn set_state(&mut self, state: &OptimizerState) -> Result<()> {
        self.restore(state)
    }

    fn state_in_place(&self) -> Result<StateInPlace> {
        self.saved_in_place()
    }

    fn check_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.check_packed(state, tensors)
    }

    fn set_state_packed(&mut self, state: &OptimizerState, tensors: &StateTensors<'_>) -> Result<()> {
        self.restore_packed(state, tensors)
    }
}
