//! Balances a pole on a cart by deep Q-learning: a network foretells what each push will earn in the end, and learns from a
//! memory of what happened, held to the forecasts of a slower copy of itself.
//!
//! V. Mnih and others, "Human-level control through deep reinforcement learning", Nature 518, 2015; which action the copy
//! is asked about, the learning network says: H. van Hasselt and others, "Deep reinforcement learning with double
//! Q-learning", AAAI 2016.

#[path = "common/cartpole.rs"]
mod cartpole;
#[path = "common/course.rs"]
mod course;
#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use cartpole::{ACTIONS, Carts, NUMBERS, mean_return};
use clap::Parser;
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::{Progress, Rounds, Trainer};
use serde_json::json;

/// Carts that are played with at once.
const CARTS: usize = 8;
/// Transitions that the memory has room for, and those that a step learns from.
const MEMORY: usize = 100_000;
const BATCH: usize = 128;
/// What is earned a push later counts so much.
const DISCOUNT: f64 = 0.99;

/// Learns to balance a pole on a cart by deep Q-learning.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// What happened once: a state, a push, and what came of it.
#[derive(Clone, Copy)]
struct Transition {
    state: [f32; NUMBERS],
    action: u32,
    next: [f32; NUMBERS],
    /// 0 where nothing can follow.
    follows: f32,
}

/// What each action will earn, for states `[n, NUMBERS]`: `[n, ACTIONS]`.
fn network(params: &ParamStore) -> Sequential {
    let root = params.root();
    Sequential::new()
        .add(Linear::new(&root.child("fc1"), NUMBERS, 128))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("fc2"), 128, 128))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("out"), 128, ACTIONS))
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let (params, follower) = (ParamStore::new(&device, args.seed), ParamStore::new(&device, args.seed));
    let (net, target) = (network(&params), network(&follower));
    let states = |values: &[f32]| device.tensor(values, &[values.len() / NUMBERS, NUMBERS]);
    // The action that will earn the most, for each state.
    let best = |values: &[f32]| no_grad(|| net.forward(&states(values), Mode::Eval).argmax(1)).to_vec::<u32>();

    let (epochs, rounds) = args.pick((16, 500), (2, 500));
    let rate = schedule::linear(2e-3, 1e-4, epochs * rounds);
    let adam = Adam::new(&params, AdamConfig::default()).schedule(rate).clip_norm(10.0);
    let (mut carts, mut random) = (Carts::new(CARTS, args.seed), Philox::new(args.seed, 1));
    let mut memory: Vec<Transition> = vec![];
    let mut oldest = 0;
    let mut trainer = Trainer::new(&params).store("target", &follower).optimizer(adam).epochs(epochs);
    trainer = trainer.callback(Progress::on_stdout());
    let history = trainer.fit(Rounds::new(rounds), (), |step, round| {
        // Chance alone at first, then less and less of it.
        let chance = (1.0 - round as f64 / (0.2 * (epochs * rounds) as f64)).max(0.02);
        let before = carts.states();
        let mut actions = best(&before)?;
        for action in &mut actions {
            if random.uniform() < chance {
                *action = random.below(ACTIONS as u32);
            }
        }
        for ((state, &action), outcome) in before.as_chunks().0.iter().zip(&actions).zip(carts.push(&actions)) {
            let follows = if outcome.fell { 0.0 } else { 1.0 };
            let new = Transition { state: *state, action, next: outcome.next, follows };
            match memory.get_mut(oldest) {
                Some(old) => *old = new,
                None => memory.push(new),
            }
            oldest = (oldest + 1) % MEMORY;
        }
        let drawn: Vec<Transition> = (0..BATCH).map(|_| memory[random.below(memory.len() as u32) as usize]).collect();
        let column =
            |number: fn(&Transition) -> f32| device.tensor(&drawn.iter().map(number).collect::<Vec<_>>(), &[BATCH, 1]);
        let taken = device.tensor(&drawn.iter().map(|one| one.action).collect::<Vec<_>>(), &[BATCH, 1]);
        let now = states(&drawn.iter().flat_map(|one| one.state).collect::<Vec<_>>());
        let next = states(&drawn.iter().flat_map(|one| one.next).collect::<Vec<_>>());

        // What a push earns, and what the state behind it will by the copy's forecast. In units in which standing for ever
        // earns 1: a network that begins near 0 learns that best.
        let wanted = no_grad(|| {
            let chosen = net.forward(&next, Mode::Eval).argmax(1).reshape(&[BATCH, 1]);
            (1.0 - DISCOUNT)
                + target.forward(&next, Mode::Eval).gather(1, &chosen) * column(|one| one.follows) * DISCOUNT
        });
        let forecast = net.forward(&now, step.mode()).gather(1, &taken);
        step.metric("return", device.tensor(&[carts.recent()], &[1]));
        step.minimise(&forecast.huber_loss(&wanted, 1.0))?;
        follower.copy_from(&params, 0.05)
    })?;

    let result = mean_return(100, args.seed + 1, |values| Ok(best(values)?))?;
    let chart = course::curves(&history, "Deep Q-learning on a cart and its pole", "mean return", &["return"]);
    args.keep("dqn_cartpole.svg", chart)?;
    let carts = |batch: usize, _| vec![device.uniform(&[batch, NUMBERS], -1.0, 1.0, args.seed)];
    args.export(|x| vec![net.forward(&x[0], Mode::Eval)], carts, &[])?;
    args.finish(json!({ "return": result }))?;
    ensure!(result > args.pick(195.0, 60.0), "a mean return of {result}");
    Ok(())
}
