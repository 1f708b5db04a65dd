//! Gradients that are sent while the backward pass goes on: the same bits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kiln::distributed::{Communicator, Kind, Outgoing, Parcel, Start, World};
use kiln::prelude::*;

use super::assert_equal;
use super::net::{Digits, gpu, on_ranks, rules, train};

/// Three buckets or more of the digits' network.
const SMALL: [usize; 2] = [256, 1024];

fn cut(world: &World) {
    world.send_in_buckets(SMALL[0], SMALL[1]);
}

#[test]
fn buckets_change_no_bit() {
    for device in [gpu(), Device::cpu()] {
        for precision in [Precision::Full, Precision::Mixed] {
            for ranks in [2, 3] {
                let plan = Digits { micro_batches: ranks, of_rank_0: ranks, precision, ..Digits::short() };
                let run = |world: World| {
                    cut(&world);
                    train(&world, &device, &plan, rules().1).unwrap()
                };
                let what = format!("{ranks} ranks, {precision}, {}", device.info());
                assert_equal(&run(World::alone()), &on_ranks(ranks, run), &what);
            }
        }
    }
}

#[test]
fn buckets_take_what_was_accumulated_and_ranks_without_a_batch() {
    let device = gpu();
    // The last step has one micro-batch for three ranks; the others have two for each.
    let plan = Digits { micro_batches: 6, of_rank_0: 3, last: Some(1), ..Digits::short() };
    let run = |is_cut| {
        on_ranks(3, |world| {
            if is_cut {
                cut(&world);
            }
            (train(&world, &device, &plan, rules().0).unwrap(), world.traffic())
        })
    };
    let (whole, parts) = (run(false), run(true));
    for ((whole, before), (parts, after)) in whole.iter().zip(&parts) {
        assert!(whole.differs_from(parts).is_none(), "{:?}", whole.differs_from(parts));
        // The same gradients, in more messages; rank 0 alone has some at the last step.
        assert_eq!((before.read, before.written), (after.read, after.written));
        assert!(after.exchanges >= before.exchanges + 2 * 2 * plan.steps, "{before:?} {after:?}");
        assert!(after.sent < before.sent + before.sent / 2, "{before:?} {after:?}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_refused_on_all() {
    for device in [gpu(), Device::cpu()] {
        let outcomes = on_ranks(2, |world| {
            cut(&world);
            let params = ParamStore::new(&device, 1);
            let names = ["a", "b", "unused"];
            let [a, b, _] = names.map(|name| params.root().param(name, &[300], Init::Ones));
            let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() }).distributed(&world).unwrap();
            // Its gradient is finite, and rank 1 reaches the first parameter alone.
            let far = if world.rank() == 1 { f32::INFINITY } else { 0.0 };
            let both = a.tensor().sum_all() + b.tensor().sum_all() * if world.rank() == 1 { 0.0 } else { 1.0 };
            let loss = both + device.tensor(&[far], &[]);
            let refused = sgd.step(&loss).and_then(|()| sgd.store().save_bytes().map(drop));
            ([a, b].map(|param| param.values().unwrap()), refused.unwrap_err().to_string())
        });
        for (values, refused) in outcomes {
            assert!(values.iter().flatten().all(|x| *x == 1.0), "{}", device.info());
            assert!(refused.contains("not finite"), "{refused}");
        }
    }
}

/// At an exchange of gradients: dispatches of the plan, and how many of them each part waits for.
type Seen = (usize, Vec<usize>);

/// Another rank that has the very gradients of this one, and looks at the plan that runs when gradients are sent.
struct Mirror {
    device: Device,
    seen: Arc<Mutex<Vec<Seen>>>,
}

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

    fn exchange(&self, out: Outgoing, _: Duration) -> Result<Vec<Option<Parcel>>> {
        if let (Kind::Scatter, Some(plan)) = (out.kind, self.device.last_plan()) {
            let parts = plan.parts.iter().map(|part| part.after).collect();
            self.seen.lock().unwrap().push((plan.dispatches.len(), parts));
        }
        let bytes = out.bytes[1].to_vec();
        Ok(vec![None, Some(Parcel { kind: out.kind, number: out.number, bytes })])
    }

    fn last_words(&self, _: Outgoing) {}

    fn finish(&self) {}
}

#[test]
fn the_first_bucket_is_read_while_the_pass_goes_on() {
    let device = gpu();
    let seen = Arc::new(Mutex::new(vec![]));
    let world = World::over(Box::new(Mirror { device: device.clone(), seen: seen.clone() }), Start::default());
    world.send_in_buckets(1, 1);
    let params = ParamStore::new(&device, 1);
    let net = (0..4).fold(Sequential::new(), |net, layer| {
        net.add(Linear::new(&params.root().child(layer), 64, 64)).add(Tensor::tanh)
    });
    let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() }).distributed(&world).unwrap();
    for _ in 0..2 {
        sgd.step(&net.forward(&device.ones(&[32, 64]), Mode::Train).square().sum_all()).unwrap();
    }
    let seen = seen.lock().unwrap().clone();
    // A bucket for each weight and bias.
    assert_eq!(seen.len(), 2 * 8);
    for (dispatches, parts) in seen {
        assert_eq!(parts.len(), 8);
        assert!(parts.is_sorted() && parts[0] < dispatches && parts[3] < dispatches, "{parts:?} of {dispatches}");
        assert!(parts[0] < parts[7], "{parts:?} of {dispatches}");
    }
}
