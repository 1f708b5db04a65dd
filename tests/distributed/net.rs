//! A network with all that could tell ranks apart: batch normalisation, dropout, clipping.

use kiln::distributed::World;
use kiln::nn::BatchNorm2d;
use kiln::optim::{MuonConfig, OptimizerState, Rule};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

pub const RANKS: [usize; 4] = [1, 2, 3, 4];

pub fn gpu() -> Device {
    Device::named("vulkan").expect("a Vulkan driver")
}

pub fn rules() -> (AdamWConfig, MuonConfig) {
    (AdamWConfig::default(), MuonConfig::default())
}

/// What each of so many ranks gives back.
pub fn on_ranks<T: Send>(size: usize, run: impl Fn(World) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let ranks: Vec<_> = World::threads(size).into_iter().map(|world| scope.spawn(|| run(world))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// A run.
#[derive(Clone)]
pub struct Digits {
    pub steps: u64,
    /// Of each step.
    pub micro_batches: usize,
    /// Of the last step, if fewer.
    pub last: Option<usize>,
    /// Each so-manyth micro-batch moves the running statistics: those of rank 0.
    pub of_rank_0: usize,
    pub keeps_order: bool,
    pub precision: Precision,
    pub from: Option<Vec<u8>>,
}

impl Digits {
    pub fn short() -> Digits {
        Digits {
            steps: steps(),
            micro_batches: 1,
            last: None,
            of_rank_0: 1,
            keeps_order: false,
            precision: Precision::Full,
            from: None,
        }
    }
}

/// `KILN_STEPS` for a long run.
fn steps() -> u64 {
    std::env::var("KILN_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(4)
}

/// What became of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub weights: Vec<f64>,
    pub statistics: Vec<f64>,
    pub state: OptimizerState,
    pub draws: (u64, u64),
    pub losses: Vec<f64>,
    pub checkpoint: Vec<u8>,
    /// Elements of the arena of gradients.
    pub room: usize,
}

impl Outcome {
    /// The first of all that differs.
    pub fn differs_from(&self, other: &Outcome) -> Option<String> {
        let bits = |values: &[f64]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let first = |a: &[f64], b: &[f64]| bits(a).iter().zip(bits(b)).position(|(a, b)| *a != b);
        if let Some(at) = first(&self.weights, &other.weights) {
            return Some(format!("weight {at}: {:e} and {:e}", self.weights[at], other.weights[at]));
        }
        if let Some(at) = first(&self.statistics, &other.statistics) {
            return Some(format!("statistic {at}: {:e} and {:e}", self.statistics[at], other.statistics[at]));
        }
        if self.state != other.state {
            return Some("the optimizer's state".into());
        }
        (self.draws != other.draws).then(|| format!("draws: {:?} and {:?}", self.draws, other.draws))
    }
}

/// Trains on digits: micro-batch i of a step is that of rank i modulo the number of ranks.
pub fn train(world: &World, device: &Device, plan: &Digits, rule: impl Rule) -> Result<Outcome> {
    // Another seed on each rank: the weights are those of rank 0.
    let params = ParamStore::new(device, 42 + world.rank() as u64);
    params.set_precision(plan.precision);
    let root = params.root();
    let bn = BatchNorm2d::new(&root.child("bn"), 8);
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv"), 1, 8, 3).padding(1))
        .add(bn.clone())
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Dropout::new(&root.child("dropout"), 0.3))
        .add(Linear::new(&root.child("fc"), 8 * 4 * 4, 10));
    params.draws().seek((42, params.draws().position().1));
    let mut optimizer = Optimizers::of(&params).matrices(rule).rest(AdamWConfig::default()).clip_norm(0.5);
    if let Some(bytes) = &plan.from {
        Checkpoint::from_bytes(bytes)?.load().store("model", &params).optimizer("model", &mut optimizer).finish()?;
    }
    let mut optimizer = optimizer.distributed(world)?;
    let begun = optimizer.steps();
    let digits = kiln::data::digits().train;
    let size = world.size();
    let micro_batch = |number: u64| {
        let mut loader = digits.batches(8).shuffle(1);
        let position = kiln::data::Position { epoch: 0, batch: number % 170 };
        loader.seek(position).map(|()| loader.next())
    };
    let mut losses = vec![];
    for step in begun..plan.steps {
        let count = plan.last.filter(|_| step + 1 == plan.steps).unwrap_or(plan.micro_batches);
        let own: Vec<usize> = (world.rank()..count).step_by(size).collect();
        if own.is_empty() {
            optimizer.step_with(vec![])?;
        }
        for &number in &own {
            let Some(batch) = micro_batch(step * plan.micro_batches as u64 + number as u64)? else { break };
            let before = [bn.running_mean.get(), bn.running_var.get()];
            let images = device.tensor(&batch.images, &batch.shape);
            let loss = net.forward(&images, Mode::Train).cross_entropy(&device.labels(&batch.labels));
            if number % plan.of_rank_0 != 0 {
                bn.running_mean.assign(&before[0]);
                bn.running_var.assign(&before[1]);
            }
            let share = &loss / count as f64;
            match Some(&number) == own.last() {
                true => optimizer.step(&share)?,
                false => optimizer.accumulate(&share)?,
            }
            losses.push(loss.item()?);
        }
    }
    let weights = params.parameters().iter().map(Param::values).collect::<Result<Vec<_>>>()?.concat();
    let statistics = [bn.running_mean.get().to_vec::<f64>()?, bn.running_var.get().to_vec::<f64>()?].concat();
    let checkpoint = Checkpoint::parts().store("model", &params).optimizer("model", &optimizer).save_bytes()?;
    let room = |param: &Param| param.shape().map(|shape| shape.elements().next_multiple_of(64));
    Ok(Outcome {
        weights,
        statistics,
        state: optimizer.state()?,
        draws: params.draws().position(),
        losses,
        checkpoint,
        room: params.parameters().iter().map(room).sum::<Result<usize>>()?,
    })
}
