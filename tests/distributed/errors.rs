//! What one rank meets reaches all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kiln::distributed::{Communicator, Outgoing, Parcel, Start, World};
use kiln::prelude::*;

use super::net::on_ranks;

/// A weight, and an optimizer of it.
fn weight(device: &Device, names: &[&str], world: &World) -> Result<(Vec<Param>, Sgd)> {
    let params = ParamStore::new(device, 1);
    let weights = names.iter().map(|name| params.root().param(name, &[3], Init::Ones)).collect();
    let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() }).distributed(world)?;
    Ok((weights, sgd))
}

fn told<T>(result: Result<T>) -> String {
    result.err().map_or("nothing".into(), |error| error.to_string())
}

#[test]
fn another_model_is_named_with_its_rank() {
    let errors = on_ranks(3, |world| {
        let name = if world.rank() == 2 { "b" } else { "a" };
        told(weight(&Device::cpu(), &[name], &world))
    });
    assert!(
        errors.iter().all(|error| error.contains("rank 2: it has parameter b") && error.contains("a [3]")),
        "{errors:?}"
    );
}

#[test]
fn another_setting_is_named_by_the_first_step() {
    let errors = on_ranks(2, |world| {
        let params = ParamStore::new(&Device::cpu(), 1);
        let weight = params.root().param("w", &[3], Init::Ones);
        let lr = if world.rank() == 1 { 0.2 } else { 0.1 };
        let mut sgd = Sgd::new(&params, SgdConfig { lr, ..Default::default() }).distributed(&world)?;
        sgd.step(&weight.tensor().sum_all())
    });
    let errors: Vec<String> = errors.into_iter().map(told).collect();
    assert!(errors.iter().all(|error| error.starts_with("rank 1: it has ") && error.contains("0.2")), "{errors:?}");
}

#[test]
fn an_error_of_one_rank_is_that_of_all() {
    let errors = on_ranks(3, |world| {
        let (weights, mut sgd) = weight(&Device::cpu(), &["w"], &world)?;
        sgd.step(&weights[0].tensor().sum_all())?;
        if world.rank() == 1 {
            let error = kiln::data::mnist("/nowhere").err().unwrap();
            world.fail(&error);
            return Err(error);
        }
        sgd.step(&weights[0].tensor().sum_all())
    });
    let errors: Vec<String> = errors.into_iter().map(told).collect();
    assert!(errors.iter().all(|error| error.contains("/nowhere")), "{errors:?}");
    assert!(errors[0].starts_with("rank 1: "), "{errors:?}");
}

#[test]
fn a_rank_that_ends_early_or_panics_or_is_silent_is_no_riddle() {
    let errors = on_ranks(2, |world| {
        let (weights, mut sgd) = weight(&Device::cpu(), &["w"], &world)?;
        if world.rank() == 1 { Ok(()) } else { sgd.step(&weights[0].tensor().sum_all()) }
    });
    let error = told(errors.into_iter().next().unwrap());
    assert!(error.starts_with("rank 1: it has come to its end while rank 0 was comparing settings"), "{error}");

    let mut worlds = World::threads(2);
    let (other, own) = (worlds.pop().unwrap(), worlds.pop().unwrap());
    std::thread::spawn(move || {
        let _world = other;
        std::panic::panic_any(1);
    });
    let error = told(own.barrier());
    assert!(error.starts_with("rank 1: it panicked"), "{error}");

    let start = Start { longest: Duration::from_millis(50), ..Start::default() };
    let worlds = World::threads_with(2, start);
    let error = told(worlds[0].barrier());
    assert!(error.starts_with("rank 1: it has not answered for 0.05 s"), "{error}");
    assert_eq!(told(worlds[0].barrier()), error, "and it stays so");
}

#[test]
fn a_step_that_is_not_finite_on_one_rank_is_refused_on_all() {
    let device = super::net::gpu();
    for scaled in [false, true] {
        let weights = on_ranks(2, |world| {
            let params = ParamStore::new(&device, 1);
            let weight = params.root().param("w", &[3], Init::Ones);
            let scale = scaled.then(kiln::optim::LossScale::default);
            let sgd = Sgd::new(&params, SgdConfig { lr: 0.125, ..Default::default() }).loss_scaling(scale);
            let mut sgd = sgd.distributed(&world).unwrap();
            let mut refused = 0;
            for step in 0..4 {
                // The gradient of rank 1, or its loss alone.
                let factor = if step == 1 && world.rank() == 1 { f64::INFINITY } else { 1.0 };
                let loss = match step == 2 && world.rank() == 1 {
                    true => weight.tensor().sum_all() + device.tensor(&[f32::INFINITY], &[]),
                    false => weight.tensor().sum_all() * device.tensor(&[factor as f32], &[]),
                };
                while let Err(error) = sgd.step(&loss) {
                    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                    refused += 1;
                }
            }
            if let Err(error) = params.save_bytes() {
                assert!(matches!(error, Error::NonFinite { .. }), "{error}");
                refused += 1;
            }
            (weight.values().unwrap(), refused, sgd.loss_scale().unwrap())
        });
        // Two steps of an eighth from each of two ranks.
        assert_eq!(weights[0].0, [0.5; 3]);
        assert_eq!(weights[0], weights[1]);
        assert_eq!(weights[0].1, if scaled { 0 } else { 2 });
        assert_eq!(weights[0].2, scaled.then_some(16_384.0));
    }
}

#[test]
fn a_loss_that_is_not_finite_is_refused_on_all_where_the_first_parameter_has_no_gradient() {
    let device = Device::cpu();
    let weights = on_ranks(2, |world| {
        let (weights, mut sgd) = weight(&device, &["unused", "w"], &world).unwrap();
        // Its gradient is finite.
        let far = if world.rank() == 1 { f32::INFINITY } else { 0.0 };
        let loss = weights[1].tensor().sum_all() + device.tensor(&[far], &[]);
        let refused = sgd.step(&loss).and_then(|()| sgd.store().save_bytes().map(drop));
        (weights[1].values().unwrap(), told(refused))
    });
    for (rank, (values, refused)) in weights.iter().enumerate() {
        assert_eq!(values, &[1.0; 3], "rank {rank} has taken the step");
        assert!(refused.contains("not finite"), "rank {rank}: {refused}");
    }
}

/// Carries nothing, and notes whether two threads are in it at once.
#[derive(Clone, Default)]
struct Watched {
    inside: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    exchanges: Arc<AtomicUsize>,
}

impl Watched {
    fn stay(&self) {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(200));
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Communicator for Watched {
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
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.stay();
        Ok(vec![None, Some(Parcel { kind: out.kind, number: out.number, bytes: vec![] })])
    }

    fn last_words(&self, _: Outgoing) {
        self.stay();
    }

    fn finish(&self) {}
}

#[test]
fn nothing_is_exchanged_while_a_rank_says_why_it_ends_or_behind_it() {
    let ways = Watched::default();
    let world = World::over(Box::new(ways.clone()), Start::default());
    let failing = {
        let world = world.clone();
        std::thread::spawn(move || world.fail(&kiln::data::mnist("/nowhere").err().unwrap()))
    };
    while ways.inside.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let error = told(world.barrier());
    failing.join().unwrap();
    assert!(error.contains("/nowhere"), "{error}");
    assert_eq!((ways.most.load(Ordering::SeqCst), ways.exchanges.load(Ordering::SeqCst)), (1, 0));
}

#[test]
fn ranks_at_different_steps_are_told_apart() {
    let errors = on_ranks(2, |world| match world.rank() {
        0 => told(world.barrier()),
        _ => told(world.gather(&[1.0])),
    });
    assert!(errors[0].contains("gathering numbers") && errors[1].contains("waiting for the others"), "{errors:?}");
}
