//! A training loop of several ranks by hand: each takes its own batches, all take each step together.
//!
//! `cargo run --release --features mpi --example distributed` alone, or `mpirun -n 4 target/release/examples/distributed`.
//! The last line has a number that the bits of all weights and moments decide: it is the same for 4 ranks, and for one that
//! accumulates 4 micro-batches a step (`--micro-batches 4`).

use anyhow::{Result, bail};
use clap::Parser;
use kiln::distributed::{Communicator, Network, Outgoing, Parcel, ScalingModel, Start, World};
use kiln::nn::BatchNorm2d;
use kiln::optim::MuonConfig;
use kiln::prelude::*;
use serde_json::json;
use std::time::{Duration, Instant};

/// Trains a network with batch normalisation and dropout on the embedded digits, over several ranks.
#[derive(Debug, Parser)]
struct Args {
    /// Steps.
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Images of a micro-batch.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Micro-batches of a step, those of all ranks [default: one of each rank].
    #[arg(long)]
    micro_batches: Option<u64>,
    /// Add micro-batches in the order of their numbers, also those of one rank.
    #[arg(long)]
    in_order: bool,
    /// Send gradients as f16, with error feedback: half the bytes, and no longer the bits of one rank.
    #[arg(long)]
    half: bool,
    /// Bytes of gradients that are sent together while the backward pass goes on: first, and then.
    #[arg(long, value_name = "BYTES", num_args = 2)]
    buckets: Option<Vec<usize>>,
    /// Features of hidden layers in front of the last.
    #[arg(long, value_name = "FEATURES", num_args = 1..)]
    hidden: Vec<usize>,
    /// Rule of the matrices; all others have AdamW.
    #[arg(long, default_value = "adamw", value_parser = ["adamw", "muon"])]
    rule: String,
    /// Normalise the batches of all ranks as one: no longer the bits of one rank that accumulates, but near to those of one rank with
    /// the whole batch.
    #[arg(long)]
    sync_batch_norm: bool,
    /// f16 activations and products, with scaled losses.
    #[arg(long)]
    mixed: bool,
    /// `auto`, `cpu`, a back end or part of an adapter's name.
    #[arg(long)]
    device: Option<String>,
    /// Write what was reached.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// Few steps: enough to see that all works.
    #[arg(long)]
    quick: bool,
    /// Print what a model of latency and bandwidth, fitted to this run, says of many ranks.
    #[arg(long)]
    scaling_model: bool,
    /// Bytes of a message over MPI at most.
    #[arg(long, default_value_t = 1 << 30, hide = true)]
    piece: usize,
    /// Seconds to wait for another rank.
    #[arg(long, default_value_t = 600.0)]
    longest: f64,
    /// What happens to a rank before a step, for tests: `RANK:STEP:error`, or `panic`, `silence`, `model`, `end`.
    #[arg(long, hide = true)]
    mishap: Option<String>,
}

/// The network, whose normalisation is over the ranks of a world if there is one.
fn network(root: &kiln::Path, hidden: &[usize], sync: Option<&World>) -> Sequential {
    let norm = BatchNorm2d::new(&root.child("bn"), 16);
    let mut net = Sequential::new()
        .add(Conv2d::new(&root.child("conv"), 1, 16, 3).padding(1))
        .add(match sync {
            Some(world) => norm.sync(world),
            None => norm,
        })
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dropout::new(&root.child("dropout"), 0.2));
    let mut features = 16 * 4 * 4;
    for (number, &hidden) in hidden.iter().enumerate() {
        let path = root.child("hidden").child(number);
        net = net.add(Linear::new(&path, std::mem::replace(&mut features, hidden), hidden)).add(Tensor::relu);
    }
    net.add(Linear::new(&root.child("fc"), features, 10))
}

fn main() -> Result<()> {
    let args = Args::parse();
    let start = Start { longest: Duration::from_secs_f64(args.longest.clamp(0.001, 1e6)), piece: args.piece };
    let world = World::start_with(start)?;
    let run = run(&args, &world);
    if let Err(error) = &run {
        // The others need not wait.
        match error.downcast_ref::<Error>() {
            Some(error) => world.fail(error),
            None => world.fail(&Error::Data { what: format!("{error:#}"), next: "see there" }),
        }
    }
    run
}

fn run(args: &Args, world: &World) -> Result<()> {
    world.keep_order(args.in_order);
    world.send_half(args.half);
    if let Some([first, others]) = args.buckets.as_deref() {
        world.send_in_buckets(*first, *others);
    }
    let steps = if args.quick { 100 } else { args.steps };
    let (ranks, own) = (world.size() as u64, world.rank() as u64);
    let micro_batches = args.micro_batches.unwrap_or(ranks);
    if !micro_batches.is_multiple_of(ranks) {
        bail!("{micro_batches} micro-batches for {ranks} ranks: take a multiple");
    }
    let device = world.device(args.device.as_deref())?;
    let params = ParamStore::new(&device, 42);
    params.set_precision(if args.mixed { Precision::Mixed } else { Precision::Full });
    let net = network(&params.root(), &args.hidden, args.sync_batch_norm.then_some(world));
    mishap(args, world, 0, &params)?;
    let optimizer = Optimizers::of(&params);
    let adamw = AdamWConfig { lr: 3e-3, ..Default::default() };
    let optimizer = match args.rule.as_str() {
        "muon" => optimizer.matrices(MuonConfig::default()),
        _ => optimizer.matrices(adamw.clone()),
    };
    let mut optimizer = optimizer.rest(adamw).clip_norm(1.0).distributed(world)?;
    // Epochs of whole steps.
    let digits = kiln::data::digits().train;
    let a_step = args.batch_size * micro_batches as usize;
    let whole = digits.len() / a_step.max(1) * a_step;
    let digits = digits.limit(whole);
    let mut loader = digits.batches(args.batch_size).shuffle(42).drop_last(true).shard(world.rank(), world.size());

    let (mut last, mut began) = (f64::NAN, Instant::now());
    for step in 0..steps {
        mishap(args, world, step, &params)?;
        if step == 2 {
            // The first steps make plans and kernels.
            device.synchronize()?;
            began = Instant::now();
        }
        for part in 0..micro_batches / ranks {
            // At the end of an epoch the next one begins.
            let Some(batch) = loader.next().or_else(|| loader.next()) else { bail!("no batch for rank {own}") };
            let images = device.tensor(&batch.images, &batch.shape);
            let loss = net.forward(&images, Mode::Train).cross_entropy(&device.labels(&batch.labels));
            let share = &loss / micro_batches as f64;
            if part + 1 == micro_batches / ranks {
                optimizer.step(&share)?;
            } else {
                optimizer.accumulate(&share)?;
            }
            if step + 1 == steps {
                last = loss.item()?;
            }
        }
    }
    device.synchronize()?;
    let seconds = began.elapsed().as_secs_f64() / steps.saturating_sub(2).max(1) as f64;

    let losses: f64 = world.gather(&[last])?.into_iter().flatten().sum();
    let bits = bits(&params, &optimizer)?;
    for (rank, other) in world.gather(&[(bits >> 32) as f64, (bits & 0xffff_ffff) as f64])?.iter().enumerate() {
        if other[..] != [(bits >> 32) as f64, (bits & 0xffff_ffff) as f64] {
            bail!("rank {rank} has other bits than rank {own}");
        }
    }
    let traffic = world.traffic();
    if world.is_first() {
        let images = micro_batches as f64 * args.batch_size as f64 / seconds;
        println!("ranks    {ranks}, each on {}", device.info());
        println!(
            "steps    {steps} of {micro_batches} x {} images, {:.2} ms each, {images:.0} images/s",
            args.batch_size,
            1e3 * seconds
        );
        println!(
            "traffic  {} bytes read, {} sent, {} written, {} exchanges",
            traffic.read, traffic.sent, traffic.written, traffic.exchanges
        );
        println!("loss     {:.6}", losses / ranks as f64);
        println!("bits     {bits:016x}");
        if let Some(path) = &args.json {
            let loss = losses / ranks as f64;
            let value = json!({ "ranks": ranks, "steps": steps, "loss": loss, "images_per_s": images, "bits": format!("{bits:016x}") });
            std::fs::write(path, value.to_string())?;
        }
    }
    if args.scaling_model {
        tell_model(world, &params, seconds, computing(args, world)?)?;
    }
    let is_lower = losses / (ranks as f64) < 1.5;
    if args.quick && !is_lower {
        bail!("a loss of {losses} after {steps} steps: it should have begun to fall");
    }
    Ok(())
}

/// A number that the bits of weights, moments and counts decide. Running statistics are left out: they are those of rank 0.
fn bits(params: &ParamStore, optimizer: &Optimizers) -> Result<u64> {
    let state = optimizer.state()?;
    let mut hash = state.steps ^ state.loss_scale.map_or(0, |(scale, good)| scale.to_bits() ^ good);
    let mut add = |x: f64| hash = (hash ^ x.to_bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    for param in params.parameters() {
        param.values()?.into_iter().for_each(&mut add);
    }
    state.tensors.iter().flat_map(|(_, _, values)| values).copied().for_each(&mut add);
    state.updates.iter().for_each(|(_, updates)| add(*updates as f64));
    Ok(hash)
}

/// What tests let go wrong.
fn mishap(args: &Args, world: &World, step: u64, params: &ParamStore) -> Result<()> {
    let Some(mishap) = &args.mishap else { return Ok(()) };
    let mut words = mishap.splitn(3, ':');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (rank, at) = (number(), number());
    let is_now = (rank, at) == (Some(world.rank() as u64), Some(step));
    match words.next() {
        Some("error") if is_now => bail!("a mishap at step {step}"),
        Some("panic") if is_now => panic!("a mishap at step {step}"),
        Some("silence") if is_now => std::thread::sleep(Duration::from_secs(3600)),
        Some("model") if is_now => drop(params.root().param("one more", &[1], Init::Zeros)),
        Some("end") if is_now => std::process::exit(0),
        _ => {}
    }
    Ok(())
}

/// Another rank that has what this one has, at once.
struct Mirror;

impl Communicator for Mirror {
    fn rank(&self) -> usize {
        0
    }
    fn size(&self) -> usize {
        2
    }
    fn local_rank(&self) -> usize {
        0
    }
    fn exchange(&self, out: Outgoing, _: Duration) -> kiln::Result<Vec<Option<Parcel>>> {
        let bytes = out.bytes.get(1).map(|bytes| bytes.to_vec()).unwrap_or_default();
        Ok(vec![None, Some(Parcel { kind: out.kind, number: out.number, bytes })])
    }
    fn last_words(&self, _: Outgoing) {}
    fn finish(&self) {}
}

/// Seconds of a step with all but the network, while the other ranks take such steps too.
fn computing(args: &Args, world: &World) -> Result<f64> {
    let device = world.device(args.device.as_deref())?;
    let mirror = World::over(Box::new(Mirror), Start::default());
    let params = ParamStore::new(&device, 42);
    let net = network(&params.root(), &args.hidden, None);
    let mut optimizer = AdamW::new(&params, AdamWConfig::default()).clip_norm(1.0).distributed(&mirror)?;
    let digits = kiln::data::digits().train;
    let mut began = Instant::now();
    const STEPS: usize = 40;
    for (step, batch) in digits.batches(args.batch_size).drop_last(true).take(STEPS + 2).enumerate() {
        if step == 2 {
            device.synchronize()?;
            world.barrier()?;
            began = Instant::now();
        }
        let images = device.tensor(&batch.images, &batch.shape);
        let loss = net.forward(&images, Mode::Train).cross_entropy(&device.labels(&batch.labels));
        optimizer.step(&loss)?;
    }
    device.synchronize()?;
    let own = began.elapsed().as_secs_f64() / STEPS as f64;
    Ok(world.gather(&[own])?.into_iter().flatten().fold(0.0, f64::max))
}

/// What the model says of many ranks.
fn tell_model(world: &World, params: &ParamStore, step: f64, compute: f64) -> Result<()> {
    let parameters = params.count() as f64;
    let measured = Network::measure(world)?;
    // As long as the messages of a step here.
    let own = Network::measure_at(world, params.count() * 4 / world.size())?;
    if !world.is_first() {
        return Ok(());
    }
    println!(
        "\nnetwork  {:.1} us latency, {:.2} GB/s of a rank, measured between {} ranks",
        1e6 * measured.latency,
        measured.bandwidth / 1e9,
        world.size()
    );
    let model = ScalingModel { compute, parameters, host: 0.0, network: own };
    let own = model.step(world.size()).as_secs_f64();
    println!(
        "         a step takes {:.2} ms by the model, {:.2} of them without the network",
        1e3 * own,
        1e3 * compute
    );
    println!("         steps here take {:.2} ms, {:.2} times as long", 1e3 * step, step / own);
    println!("\nHow a step of 0.2 s on one rank would scale (share of the images a second), by");
    println!("  step(N) = compute + host 4 P + 2 (N - 1) latency + 8 P (N - 1) / N / bandwidth");
    println!("ranks   25 GbE, 25 M   200 Gb/s, 25 M   25 GbE, 138 M   200 Gb/s, 138 M parameters");
    for ranks in [8, 64, 512] {
        let share = |gigabits: f64, latency: f64, parameters: f64| {
            // Four fifths of a link's bits are reached; gradients go through the host at 4 GB/s.
            let network = Network::link(gigabits, 0.8, latency);
            let model = ScalingModel { compute: 0.2, parameters, host: 1.0 / 4e9, network };
            format!("{:.0} %", 100.0 * model.efficiency(ranks))
        };
        println!(
            "{ranks:5} {:>14} {:>16} {:>15} {:>17}",
            share(25.0, 10e-6, 25e6),
            share(200.0, 3e-6, 25e6),
            share(25.0, 10e-6, 138e6),
            share(200.0, 3e-6, 138e6)
        );
    }
    println!(
        "Horovod, published, 512 GPUs at 25 GbE: 90 % (ResNet-101, Inception V3), 68 % (VGG-16: 138 M parameters), with"
    );
    println!(
        "communication behind the backward pass. The model is no measurement: it knows of no other traffic, no slow rank,"
    );
    println!("no ranks that share a link.");
    Ok(())
}
