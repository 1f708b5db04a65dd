//! Recommends things to people from what they have taken before: a vector for each of them, trained so that what somebody
//! took fits better than what they did not.
//!
//! `cargo run --release --example recommender`. S. Rendle and others, "BPR: Bayesian personalized ranking from implicit
//! feedback", 2009. It is judged by things that were taken and held back, beside the ranking by popularity that a shop
//! without a model shows to all.

#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use clap::Parser;
use kiln::data::{DataLoader, items};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::metrics::{Metrics, Ndcg};
use kiln::train::{Progress, Trainer};
use serde_json::json;

const PEOPLE: usize = 600;
const THINGS: usize = 400;
/// Kinds of things; each person likes two of them.
const KINDS: usize = 10;
/// Things that a person took, and how many of them are held back.
const TAKEN: usize = 30;
const HELD: usize = 6;
const WIDTH: usize = 16;

/// Learns from what people took what else they would take.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// For each person the things that they took, in the order in which they did: mostly of the kinds that they like, well-known
/// ones more often.
fn people(random: &mut Philox) -> Vec<Vec<u32>> {
    let fame: Vec<f64> = (0..THINGS).map(|_| 1.0 / (0.05 + random.uniform())).collect();
    let kinds: Vec<u32> = (0..THINGS).map(|_| random.below(KINDS as u32)).collect();
    let mut person = |_| {
        let liked = [0; 2].map(|_| random.below(KINDS as u32));
        // The first to come of things that come at these rates.
        let mut waits: Vec<(f64, u32)> = (0..THINGS)
            .map(|thing| {
                let taste = if liked.contains(&kinds[thing]) { 1.0 } else { 0.05 };
                (-(1.0 - random.uniform()).ln() / (fame[thing] * taste), thing as u32)
            })
            .collect();
        waits.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut taken: Vec<u32> = waits[..TAKEN].iter().map(|wait| wait.1).collect();
        // What is held back is not what came last.
        (1..TAKEN).for_each(|last| taken.swap(last, random.below(last as u32 + 1) as usize));
        taken
    };
    (0..PEOPLE).map(&mut person).collect()
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let people = people(&mut Philox::new(args.seed, 0));
    let known = |person: u32| people[person as usize][HELD..].to_vec();
    let pairs: Vec<(u32, u32)> =
        (0..PEOPLE as u32).flat_map(|person| known(person).into_iter().map(move |thing| (person, thing))).collect();
    println!("data     {PEOPLE} people took {TAKEN} of {THINGS} things each; {HELD} of these are held back");
    // Each thing that was taken beside one that was not, drawn anew each time.
    let all = people.clone();
    let train = DataLoader::new(items(pairs.clone()), 256).shuffle(args.seed).drop_last(true).map(
        move |(person, thing), random| {
            let other = std::iter::repeat_with(|| random.below(THINGS as u32))
                .find(|other| !all[person as usize][HELD..].contains(other));
            (person, thing, other.unwrap_or(0))
        },
    );

    let params = ParamStore::new(&device, args.seed);
    let small = EmbeddingConfig { init: Init::Normal { mean: 0.0, deviation: 0.1 }, ..Default::default() };
    let table = |name: &str, rows, width| Embedding::with(&params.root().child(name), rows, width, small);
    let (tastes, traits, fame) =
        (table("tastes", PEOPLE, WIDTH), table("traits", THINGS, WIDTH), table("fame", THINGS, 1));
    let fits = |person: &Tensor, thing: &Tensor| {
        (tastes.forward(person) * traits.forward(thing)).sum(1) + fame.forward(thing).squeeze(1)
    };
    let epochs = args.pick(30, 6);
    let rate = schedule::cosine(1e-2, epochs * train.batches_per_epoch());
    let adamw = AdamW::new(&params, AdamWConfig { weight_decay: 0.1, ..Default::default() }).schedule(rate);
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(epochs).callback(Progress::on_stdout());
    trainer.fit(train, (), |step, (people, things, others)| {
        let [people, things, others] = [people, things, others].map(|numbers| device.labels(&numbers.values));
        let better = fits(&people, &things) - fits(&people, &others);
        step.metric("right", better.gt(0.0).cast(DType::F32).mean_all());
        step.minimise(&-better.log_sigmoid().mean_all())
    })?;

    // Everybody's scores of everything; what somebody has is not recommended again.
    let mut had = vec![false; PEOPLE * THINGS];
    let (mut wanted, mut popular) = (vec![0f32; PEOPLE * THINGS], vec![0f32; THINGS]);
    for (person, thing) in pairs {
        had[person as usize * THINGS + thing as usize] = true;
        popular[thing as usize] += 1.0;
    }
    for (person, taken) in people.iter().enumerate() {
        taken[..HELD].iter().for_each(|&thing| wanted[person * THINGS + thing as usize] = 1.0);
    }
    let shape = [PEOPLE, THINGS];
    let (had, wanted) = (device.tensor(&had, &shape), device.tensor(&wanted, &shape));
    let scores = no_grad(|| {
        tastes.weight.tensor().matmul(&traits.weight.tensor().transpose(0, 1))
            + fame.weight.tensor().reshape(&[1, THINGS])
    });
    let popular = device.tensor(&popular, &[1, THINGS]).expand(&shape);
    let ndcg = |scores: &Tensor| -> Result<f64> {
        let mut metrics = Metrics::new().add(Ndcg::at(10));
        metrics.update(&scores.masked_fill(&had, -1e9), &wanted)?;
        Ok(metrics.compute()?.value("ndcg_10").unwrap_or(f64::NAN))
    };
    let (model, popularity) = (ndcg(&scores)?, ndcg(&popular)?);
    params.save(args.file("recommender.safetensors")?)?;
    let numbers = |batch: usize, most: usize| -> Tensor {
        device.labels(&(0..batch).map(|i| (i * 37 % most) as u32).collect::<Vec<_>>())
    };
    let pairs = |batch: usize, _| vec![numbers(batch, PEOPLE), numbers(batch, THINGS)];
    args.export(|x| vec![fits(&x[0], &x[1])], pairs, &[])?;
    args.finish(json!({ "ndcg@10": model, "popularity": popularity }))?;
    ensure!(model > 1.5 * popularity, "{model:.3} is not well above the {popularity:.3} of popularity");
    Ok(())
}
