//! Batch normalisation over ranks: that of one rank with the whole batch.

use std::ops::Range;

use kiln::distributed::World;
use kiln::nn::BatchNorm2d;
use kiln::prelude::*;

use super::net::{gpu, on_ranks};

const BATCH: usize = 24;

/// Two normalisations, a way around the second, and dropout-free, so that the split of a batch shows nowhere else.
struct Net {
    params: ParamStore,
    first: Conv2d,
    norms: [BatchNorm2d; 2],
    second: Conv2d,
    fc: Linear,
}

impl Net {
    fn new(device: &Device, world: &World, precision: Precision) -> Net {
        let params = ParamStore::new(device, 7);
        params.set_precision(precision);
        let root = params.root();
        let norm = |name: &str| BatchNorm2d::new(&root.child(name), 6).sync(world);
        Net {
            first: Conv2d::new(&root.child("first"), 1, 6, 3).padding(1),
            norms: [norm("one"), norm("two")],
            second: Conv2d::new(&root.child("second"), 6, 6, 3).padding(1),
            fc: Linear::new(&root.child("fc"), 6 * 64, 10),
            params,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [one, two] = &self.norms;
        let x = one.forward(&self.first.forward(x, Mode::Train), Mode::Train).relu();
        let y = two.forward(&self.second.forward(&x, Mode::Train), Mode::Train) + x;
        self.fc.forward(&y.relu().flatten(1), Mode::Train)
    }

    /// The sum of the losses of these images of the batch of a step, over the batch's length.
    fn loss(&self, step: u64, own: Range<usize>) -> Tensor {
        let device = self.params.device();
        let digits = kiln::data::digits().train;
        let mut loader = digits.batches(BATCH).shuffle(3);
        loader.seek(kiln::data::Position { epoch: 0, batch: step }).unwrap();
        let batch = loader.next().unwrap();
        let images = device.tensor(&batch.images[own.start * 64..own.end * 64], &[own.len(), 1, 8, 8]);
        let share = own.len() as f64 / BATCH as f64;
        self.forward(&images).cross_entropy(&device.labels(&batch.labels[own])) * share
    }

    fn statistics(&self) -> Vec<f64> {
        let states = self.norms.iter().flat_map(|norm| [&norm.running_mean, &norm.running_var]);
        states.flat_map(|state| state.get().to_vec::<f64>().unwrap()).collect()
    }

    fn weights(&self) -> Vec<f64> {
        self.params.parameters().iter().flat_map(|param| param.values().unwrap()).collect()
    }
}

/// Weights, running statistics, and the losses of this rank's parts.
type Outcome = (Vec<f64>, Vec<f64>, Vec<f64>);

/// Steps with the part of each batch that `part` gives a rank.
fn train(
    world: &World,
    device: &Device,
    precision: Precision,
    steps: u64,
    part: impl Fn(u64, usize) -> Range<usize>,
) -> Outcome {
    let net = Net::new(device, world, precision);
    // Steps follow gradients, not their signs, which rounding may turn.
    let sgd = Sgd::new(&net.params, SgdConfig { lr: 0.2, momentum: 0.9, ..Default::default() });
    let mut sgd = sgd.clip_norm(2.0).distributed(world).unwrap();
    let mut losses = vec![];
    for step in 0..steps {
        let own = part(step, world.rank());
        if own.is_empty() {
            sgd.step_with(vec![]).unwrap();
            losses.push(0.0);
            continue;
        }
        let loss = net.loss(step, own);
        sgd.step(&loss).unwrap();
        losses.push(loss.item().unwrap());
    }
    (net.weights(), net.statistics(), losses)
}

fn even(ranks: usize) -> impl Fn(u64, usize) -> Range<usize> {
    move |_, rank| rank * BATCH / ranks..(rank + 1) * BATCH / ranks
}

fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs() / (1.0 + b.abs())).fold(0.0, f64::max)
}

fn assert_near(one: &Outcome, all: &[Outcome], bound: f64, what: &str) {
    for (rank, own) in all.iter().enumerate() {
        assert_eq!((&own.0, &own.1), (&all[0].0, &all[0].1), "{what}: rank {rank} has other bits than rank 0");
        let far = [farthest(&own.0, &one.0), farthest(&own.1, &one.1)];
        assert!(far.iter().all(|far| *far <= bound), "{what}: weights and statistics are {far:?} away");
    }
    let sum = |step: usize| all.iter().map(|own| own.2[step]).sum::<f64>();
    for (step, loss) in one.2.iter().enumerate() {
        assert!((sum(step) - loss).abs() <= bound * 4.0, "{what}: step {step} has the loss {}, not {loss}", sum(step));
    }
}

#[test]
fn ranks_train_as_one_with_the_whole_batch() {
    for (device, bound) in [(Device::cpu(), 2e-6), (gpu(), 2e-5)] {
        let one = train(&World::alone(), &device, Precision::Full, 4, |_, _| 0..BATCH);
        for ranks in [2, 3] {
            let run = || on_ranks(ranks, |world| train(&world, &device, Precision::Full, 4, even(ranks)));
            let all = run();
            assert_near(&one, &all, bound, &format!("{ranks} ranks on {}", device.info()));
            assert_eq!(all, run(), "a second run of {ranks} ranks");
        }
    }
}

#[test]
fn scaled_losses_of_mixed_precision_go_through_it() {
    let device = gpu();
    let one = train(&World::alone(), &device, Precision::Mixed, 3, |_, _| 0..BATCH);
    let all = on_ranks(2, |world| train(&world, &device, Precision::Mixed, 3, even(2)));
    assert_near(&one, &all, 2e-2, "mixed");
}

#[test]
fn ranks_may_have_less_of_a_batch_or_nothing() {
    // A part of one image, none of one batch.
    let parts = |step: u64, rank: usize| match (step, rank) {
        (0, 0) => 0..BATCH - 1,
        (0, _) => BATCH - 1..BATCH,
        (1, 0) => 0..BATCH,
        (1, _) => 0..0,
        (_, 0) => 0..5,
        _ => 5..BATCH,
    };
    let device = gpu();
    let one = train(&World::alone(), &device, Precision::Full, 3, |_, _| 0..BATCH);
    let all = on_ranks(2, |world| train(&world, &device, Precision::Full, 3, parts));
    assert_near(&one, &all, 2e-5, "uneven parts");
}

#[test]
fn one_element_a_channel_will_do_where_other_ranks_have_more() {
    let device = Device::cpu();
    let run = |world: &World, rows: Range<usize>| {
        let params = ParamStore::new(&device, 1);
        let norm = kiln::nn::BatchNorm1d::new(&params.root().child("norm"), 2).sync(world);
        let fc = Linear::new(&params.root().child("fc"), 2, 2);
        let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.5, ..Default::default() }).distributed(world).unwrap();
        let values = [1.0f32, -2.0, 3.0, 0.5, 0.25, 8.0, -1.0, 2.0];
        let x = device.tensor(&values[rows.start * 2..rows.end * 2], &[rows.len(), 2]);
        sgd.step(&norm.forward(&fc.forward(&x, Mode::Train), Mode::Train).pow(3).sum_all()).unwrap();
        params.parameters().iter().flat_map(|param| param.values().unwrap()).collect::<Vec<f64>>()
    };
    let one = run(&World::alone(), 0..4);
    for own in on_ranks(4, |world| run(&world, world.rank()..world.rank() + 1)) {
        assert!(farthest(&own, &one) < 1e-5, "{own:?} {one:?}");
    }
}

#[test]
fn micro_batches_of_one_number_are_one_batch() {
    let device = Device::cpu();
    let run = |world: &World, parts: [Range<usize>; 2]| {
        let net = Net::new(&device, world, Precision::Full);
        let mut sgd = Sgd::new(&net.params, SgdConfig { lr: 0.1, ..Default::default() }).distributed(world).unwrap();
        let [first, second] = parts;
        sgd.accumulate(&net.loss(0, first)).unwrap();
        sgd.step(&net.loss(0, second)).unwrap();
        (net.weights(), net.statistics())
    };
    let one = run(&World::alone(), [0..8, 8..BATCH]);
    let all = on_ranks(2, |world| match world.rank() {
        0 => run(&world, [0..4, 8..10]),
        _ => run(&world, [4..8, 10..BATCH]),
    });
    // Of one rank each micro-batch moves the running statistics from those before.
    assert!(farthest(&all[0].0, &one.0) < 2e-6 && farthest(&all[0].1, &one.1) < 2e-6);
    assert_eq!(all[0], all[1]);
}

#[test]
fn without_it_ranks_have_other_statistics() {
    let device = Device::cpu();
    let statistics = on_ranks(2, |world| {
        let net = Net::new(&device, &World::alone(), Precision::Full);
        let mut sgd = Sgd::new(&net.params, SgdConfig::default()).distributed(&world).unwrap();
        sgd.step(&net.loss(0, even(2)(0, world.rank()))).unwrap();
        net.statistics()
    });
    let one = train(&World::alone(), &device, Precision::Full, 1, |_, _| 0..BATCH);
    let far = farthest(&statistics[0], &one.1);
    assert!(far > 1e-4, "{far}");
}

#[test]
fn a_layer_costs_two_exchanges_and_a_step_one_more() {
    let device = Device::cpu();
    let traffic = |steps| {
        on_ranks(3, |world| {
            train(&world, &device, Precision::Full, steps, even(3));
            world.traffic()
        })
    };
    for (few, many) in traffic(1).into_iter().zip(traffic(3)) {
        // Gradients and their sums, two layers forward and backward, the end of joining.
        assert_eq!((many.exchanges - few.exchanges) / 2, 2 + 4 + 1);
    }
}

#[test]
fn a_gradient_that_cannot_meet_the_other_ranks_is_an_error() {
    let device = Device::cpu();
    let errors = on_ranks(2, |world| {
        let net = Net::new(&device, &world, Precision::Full);
        let loss = net.loss(0, even(2)(0, world.rank()));
        let weight = net.params.parameters()[0].tensor();
        let asked = loss.gradients(&[&weight]).map(drop).unwrap_err().to_string();
        let mut sgd = Sgd::new(&net.params, SgdConfig::default());
        [asked, sgd.step(&loss).unwrap_err().to_string()]
    });
    for error in errors.into_iter().flatten() {
        assert!(error.contains("batch normalisation over ranks") && error.contains("distributed"), "{error}");
    }
}

#[test]
fn a_step_that_is_refused_leaves_its_statistics_on_no_rank() {
    let device = gpu();
    let outcomes = on_ranks(2, |world| {
        let net = Net::new(&device, &world, Precision::Full);
        let mut sgd = Sgd::new(&net.params, SgdConfig::default()).distributed(&world).unwrap();
        let mut refused = 0;
        for step in 0..3 {
            let loss = net.loss(step, even(2)(step, world.rank()));
            let far = if step == 1 && world.rank() == 1 { f32::INFINITY } else { 1.0 };
            let loss = loss * device.tensor(&[far], &[]);
            while let Err(error) = sgd.step(&loss) {
                assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                refused += 1;
            }
        }
        (net.weights(), net.statistics(), refused)
    });
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].2, 1);
    assert!(outcomes[0].0.iter().chain(&outcomes[0].1).all(|x| x.is_finite()));
}

#[test]
fn long_gradients_that_are_given_reach_all_ranks() {
    // Stored, and long enough for an update to read them where they are.
    let length = 1 << 15;
    for device in [Device::cpu(), gpu()] {
        let weights = on_ranks(2, |world| {
            let params = ParamStore::new(&device, 1);
            let weight = params.root().param("w", &[length], Init::Ones);
            let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.25, ..Default::default() }).distributed(&world).unwrap();
            let gradient = device.ones(&[length]) * (1.0 + world.rank() as f64);
            device.eval(&[&gradient]).unwrap();
            sgd.step_with(vec![(weight.clone(), gradient.clone())]).unwrap();
            weight.values().unwrap()
        });
        assert!(weights.iter().flatten().all(|x| *x == 0.25), "{}: {:?}", device.info(), &weights[0][..4]);
    }
}
