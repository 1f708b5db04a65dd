//! Balances a pole on a cart by proximal policy optimisation: an actor plays, a critic says how much better it went than
//! expected, and the actor moves toward what went better, but not far from what it was when it played.
//!
//! `cargo run --release --example ppo_cartpole`. J. Schulman and others, "Proximal policy optimization algorithms", 2017;
//! advantages as in "High-dimensional continuous control using generalized advantage estimation", 2016, by the same.

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

/// Carts that are played with at once, and pushes of each before there is something to learn from.
const CARTS: usize = 16;
const PUSHES: usize = 64;
/// Pushes that a step learns from; each that was played is drawn so many times on average.
const BATCH: usize = 256;
const TIMES: usize = 4;
/// What is earned a push later counts so much; what is known of later pushes so much less.
const DISCOUNT: f32 = 0.99;
const TRUST: f32 = 0.95;
/// How far the chance of an action may move in an update, as a share.
const CLIP: f64 = 0.2;

/// Learns to balance a pole on a cart by proximal policy optimisation.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// What happened once, and what was thought of it then.
#[derive(Clone, Copy)]
struct Push {
    state: [f32; NUMBERS],
    action: u32,
    /// Logarithm of the chance that the actor gave the action.
    log_chance: f32,
    /// What the critic expected to be earned from here on.
    value: f32,
    /// How much better than that it went.
    advantage: f32,
}

/// A small network with an output for each action, or one.
fn network(path: &Path, outputs: usize) -> Sequential {
    Sequential::new()
        .add(Linear::new(&path.child("fc1"), NUMBERS, 64))
        .add(Tensor::tanh)
        .add(Linear::new(&path.child("fc2"), 64, 64))
        .add(Tensor::tanh)
        .add(Linear::new(&path.child("out"), 64, outputs))
}

/// Plays on, with actions drawn by their chances. `judge` gives for each state the logarithms of these and the value.
fn play(
    carts: &mut Carts,
    random: &mut Philox,
    judge: impl Fn(&[f32]) -> kiln::Result<Vec<f32>>,
) -> kiln::Result<Vec<Push>> {
    let (mut played, mut outcomes) = (vec![], vec![]);
    for _ in 0..PUSHES {
        let states = carts.states();
        let judged = judge(&states)?;
        let rows = || states.as_chunks().0.iter().zip(judged.as_chunks::<{ ACTIONS + 1 }>().0);
        let first = played.len();
        for (&state, row) in rows() {
            let action = u32::from(random.uniform() >= f64::from(row[0].exp()));
            played.push(Push { state, action, log_chance: row[action as usize], value: row[ACTIONS], advantage: 0.0 });
        }
        let actions: Vec<u32> = played[first..].iter().map(|push| push.action).collect();
        let after = carts.push(&actions);
        let values = judge(&after.iter().flat_map(|outcome| outcome.next).collect::<Vec<_>>())?;
        outcomes.extend(after.into_iter().zip(values.chunks(ACTIONS + 1).map(|row| row[ACTIONS])));
    }
    // From the last push back: what each earns, and what the critic expects behind it, if anything can follow. In units in
    // which standing for ever earns 1: a network that begins near 0 learns that best.
    for at in (0..played.len()).rev() {
        let (outcome, next) = outcomes[at];
        let next = if outcome.fell { 0.0 } else { next };
        let later = played.get(at + CARTS).filter(|_| !outcome.over).map_or(0.0, |later: &Push| later.advantage);
        played[at].advantage = (1.0 - DISCOUNT) + DISCOUNT * next - played[at].value + DISCOUNT * TRUST * later;
    }
    Ok(played)
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let params = ParamStore::new(&device, args.seed);
    let [actor, critic] = [("actor", ACTIONS), ("critic", 1)].map(|(name, n)| network(&params.root().child(name), n));
    let states = |values: &[f32]| device.tensor(values, &[values.len() / NUMBERS, NUMBERS]);
    let judge = |values: &[f32]| {
        let x = states(values);
        let chances = actor.forward(&x, Mode::Eval).log_softmax(1);
        Tensor::concat(&[&chances, &critic.forward(&x, Mode::Eval)], 1).to_vec::<f32>()
    };
    let per_play = CARTS * PUSHES / BATCH * TIMES;
    let (epochs, plays) = args.pick((20, 8), (1, 8));
    let steps = plays * per_play as u64;
    let rate = schedule::linear(1e-3, 0.0, epochs * steps);
    let adam = Adam::new(&params, AdamConfig::default()).schedule(rate).clip_norm(0.5);
    let (mut carts, mut random) = (Carts::new(CARTS, args.seed), Philox::new(args.seed, 1));
    let mut played = vec![];
    let mut trainer = Trainer::new(&params).optimizer(adam).epochs(epochs).callback(Progress::on_stdout());
    let history = trainer.fit(Rounds::new(steps), (), |step, round| {
        if (round as usize).is_multiple_of(per_play) {
            played = no_grad(|| play(&mut carts, &mut random, judge))?;
        }
        let batch: Vec<Push> = (0..BATCH).map(|_| played[random.below(played.len() as u32) as usize]).collect();
        let column = |of: fn(&Push) -> f32| device.tensor(&batch.iter().map(of).collect::<Vec<_>>(), &[BATCH, 1]);
        let now = states(&batch.iter().flat_map(|push| push.state).collect::<Vec<_>>());
        let action = device.tensor(&batch.iter().map(|push| push.action).collect::<Vec<_>>(), &[BATCH, 1]);
        let advantage = column(|push| push.advantage);
        let advantage = (&advantage - advantage.mean_all()) / (advantage.std(0, 0) + 1e-8);

        let chances = actor.forward(&now, step.mode()).log_softmax(1);
        // How much likelier the action is than it was when it was played.
        let ratio = (chances.gather(1, &action) - column(|push| push.log_chance)).exp();
        let gain = (&ratio * &advantage).minimum(&(ratio.clamp(1.0 - CLIP, 1.0 + CLIP) * &advantage)).mean_all();
        let wrong = critic.forward(&now, step.mode()).mse_loss(&column(|push| push.value + push.advantage));
        // An actor that is too sure of itself finds nothing new.
        let doubt = -(chances.exp() * &chances).sum(1).mean_all();
        step.metric("return", device.tensor(&[carts.recent()], &[1]));
        step.metric("doubt", &doubt);
        step.minimise(&(wrong * 0.5 - gain - doubt * 0.01))
    })?;

    // Judged by what the actor holds best, without chance.
    let best = |values: &[f32]| no_grad(|| actor.forward(&states(values), Mode::Eval).argmax(1)).to_vec::<u32>();
    let result = mean_return(100, args.seed + 1, |values| Ok(best(values)?))?;
    let chart = course::curves(&history, "An actor and its critic on a cart", "mean return", &["return"]);
    args.keep("ppo_cartpole.svg", chart)?;
    let carts = |batch: usize, _| vec![device.uniform(&[batch, NUMBERS], -1.0, 1.0, args.seed)];
    let both = |x: &[Tensor]| vec![actor.forward(&x[0], Mode::Eval).log_softmax(1), critic.forward(&x[0], Mode::Eval)];
    args.export(both, carts, &[])?;
    args.finish(json!({ "return": result }))?;
    ensure!(result > args.pick(195.0, 60.0), "a mean return of {result}");
    Ok(())
}
