//! What a fit does, beside a loop written by hand.

use std::sync::{Arc, Mutex};

use kiln::optim::{Ema, Swa};
use kiln::prelude::*;
use kiln::train::{Event, Every, Freeze, LrRange, Rounds, Run, Stopped, Trainer};

use super::{Net, data, loader};

#[test]
fn a_fit_is_the_loop_that_one_writes_by_hand() {
    let device = Device::cpu();
    let (train, test) = data();
    let net = Net::new(&device, 1);
    let history = net
        .trainer()
        .epochs(2)
        .log_every(4)
        .fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch))
        .unwrap();

    let by_hand = Net::new(&device, 1);
    let (mut adamw, mut loader) = (by_hand.adamw(), loader(&train));
    for epoch in 0..2 {
        let mut losses = vec![];
        for batch in loader.by_ref() {
            let (logits, labels) = by_hand.logits(&device, &batch, Mode::Train);
            let loss = logits.cross_entropy(&labels);
            adamw.step(&loss).unwrap();
            losses.push((loss.item().unwrap(), batch.len() as f64));
        }
        let mean = losses.iter().map(|(loss, n)| loss * n).sum::<f64>() / 90.0;
        let mut right = 0.0;
        for batch in test.batches(16) {
            let (logits, labels) = by_hand.logits(&device, &batch, Mode::Eval);
            right += super::accuracy(&logits, &labels).item().unwrap() * batch.len() as f64;
        }
        let record = &history.epochs[epoch];
        assert!((record.get("loss").unwrap() - mean).abs() < 1e-12, "{record:?} {mean}");
        assert!((record.get("val_accuracy").unwrap() - right / 40.0).abs() < 1e-12, "{record:?} {right}");
        assert_eq!((record.epoch, record.step), (epoch as u64, 6 * (epoch as u64 + 1)));
    }
    assert_eq!(net.bits(), by_hand.bits());
    assert_eq!((history.epochs.len(), history.stopped), (2, Some(Stopped::Epochs)));
}

#[test]
fn validation_data_that_a_fit_was_lent_are_at_their_first_batch_behind_it() {
    let device = Device::cpu();
    let (train, test) = data();
    let net = Net::new(&device, 1);
    let mut lent = test.batches(16);
    net.trainer().epochs(1).fit(loader(&train), &mut lent, |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!(lent.map(|batch| batch.len()).sum::<usize>(), 40);
}

#[test]
fn a_step_of_several_batches_is_the_step_of_the_whole() {
    let device = Device::cpu();
    let (train, _) = data();
    let weights = |size: usize, accumulate: u64| {
        let params = ParamStore::new(&device, 3);
        let layer = Linear::new(&params.root(), 64, 10);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let trainer = &mut Trainer::new(&params).optimizer(sgd).epochs(2).accumulate(accumulate);
        // 90 is no multiple of 20: the last step of an epoch has 10 images.
        let history = trainer
            .fit(train.batches(size), (), |step, batch| {
                let x = step.device().tensor(&batch.images, &[batch.len(), 64]);
                step.minimise(&layer.forward(&x, step.mode()).cross_entropy(&step.device().labels(&batch.labels)))
            })
            .unwrap();
        assert_eq!((trainer.step(), history.last().unwrap().step), (10, 10));
        params.parameters().iter().flat_map(|p| p.values().unwrap()).collect::<Vec<f64>>()
    };
    let whole = weights(20, 1);
    // In parts of 4 the last step has batches of 4, 4 and 2. Their shares are rounded to f32, as every number beside a tensor.
    for parts in [weights(10, 2), weights(4, 5)] {
        assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-7));
    }
}

#[test]
fn events_come_in_the_order_of_a_run() {
    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let told = Arc::new(Mutex::new(vec![]));
    let to = told.clone();
    let listen = move |event: Event<'_>, run: &mut Run<'_>| {
        let name = format!("{event:?}");
        let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
        to.lock().unwrap().push(format!("{name} {}.{}", run.epoch(), run.step()));
        Ok(())
    };
    let mut trainer = net.trainer().epochs(1).limit_batches(2).limit_validation_batches(1).callback(listen);
    trainer = trainer.validate_every(Every::Steps(2)).log_every(1);
    trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)).unwrap();
    let want = [
        "FitStart 0.0",
        "EpochStart 0.0",
        "StepStart 0.0",
        "StepEnd 0.1",
        "StepStart 0.1",
        "StepEnd 0.2",
        "ValidationStart 0.2",
        "ValidationStep 0.2",
        "Measure 0.2",
        "Validated 0.2",
        "Logged 0.2",
        "Logged 0.2",
        "Measure 0.2",
        "EpochEnd 0.2",
        "FitEnd 1.2",
    ];
    assert_eq!(*told.lock().unwrap(), want);
}

#[test]
fn callbacks_add_numbers_that_are_no_means() {
    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let largest = Arc::new(Mutex::new(0));
    let seen = largest.clone();
    let measures = move |event: Event<'_>, run: &mut Run<'_>| {
        if let Event::Measure { validation: true } = event {
            run.record("largest", f64::from(std::mem::take(&mut *seen.lock().unwrap())));
        }
        Ok(())
    };
    let folder = super::unused("measured");
    let saves = kiln::train::Saves::in_folder(&folder).best("val_largest", kiln::schedule::Goal::Max);
    let mut trainer = net.trainer().epochs(2).callback(measures).saves(saves);
    let history = trainer
        .fit(loader(&train), test.batches(30), |step, batch| {
            if !step.is_training() {
                let largest = &mut *largest.lock().unwrap();
                *largest = (*largest).max(batch.len() as u32);
            }
            net.step(step, &batch)
        })
        .unwrap();
    let told = |record: &kiln::train::Record| record.get("val_largest");
    assert_eq!(history.epochs.iter().chain(&history.validations).map(told).collect::<Vec<_>>(), [Some(30.0); 4]);
    assert!(folder.join("best.safetensors").is_file());
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn limits_by_steps_and_time_end_within_an_epoch_with_its_numbers_so_far() {
    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let mut trainer = net.trainer().steps(8);
    let history = trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((history.epochs.len(), history.stopped.clone()), (1, Some(Stopped::Steps)));
    let last = history.last().unwrap();
    assert_eq!((last.epoch, last.step), (1, 8));
    assert!(last.get("val_loss").is_some() && last.get("loss").is_some(), "{last:?}");
    // The same trainer goes on.
    let mut trainer = trainer.steps(12);
    let history = trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((history.epochs.len(), history.unfinished), (2, None));
    let whole = Net::new(&Device::cpu(), 1);
    whole.trainer().epochs(2).fit(loader(&train), (), |step, batch| whole.step(step, &batch)).unwrap();
    assert_eq!(net.bits(), whole.bits());

    let mut timed = net.trainer().time(std::time::Duration::ZERO);
    let history = timed.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((history.stopped, timed.step()), (Some(Stopped::Time), 0));
}

#[test]
fn overfitting_gives_the_same_batches_in_every_epoch() {
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let mut seen = vec![];
    let history = net
        .trainer()
        .epochs(3)
        .overfit_batches(2)
        .fit(loader(&train), (), |step, batch| {
            seen.push(batch.indices.clone());
            net.step(step, &batch)
        })
        .unwrap();
    assert_eq!((history.epochs.len(), seen.len()), (3, 6));
    assert!(seen[2..] == [seen[0].clone(), seen[1].clone(), seen[0].clone(), seen[1].clone()]);
    let net = Net::new(&Device::cpu(), 1);
    let mut dev = net.trainer().epochs(50).fast_dev_run();
    let history = dev.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((dev.step(), history.stopped), (1, Some(Stopped::Epochs)));
}

#[test]
fn a_validation_has_the_average_in_place_and_training_has_not() {
    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let ema = Ema::new(&net.params, 0.9);
    let mut trainer = Trainer::new(&net.params).optimizer(net.adamw().average(&ema)).average(&ema).epochs(1);
    let history = trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)).unwrap();
    let loss = || {
        let all = test.batches(0).next().unwrap();
        let (logits, labels) = net.logits(net.params.device(), &all, Mode::Eval);
        logits.cross_entropy(&labels).item().unwrap()
    };
    let plain = loss();
    let kept = ema.swap_in().unwrap();
    let averaged = loss();
    drop(kept);
    let told = history.get("val_loss").unwrap();
    assert!((told - averaged).abs() < 1e-12 && (told - plain).abs() > 1e-3, "{told}: {averaged} {plain}");
    // Two averages are saved under names of their own.
    let swa = Swa::new(&net.params, 1, 1);
    let folder = super::unused("averages");
    let adamw = net.adamw().average(&ema).average(&swa);
    let mut both = Trainer::new(&net.params).optimizer(adamw).average(&ema).epochs(1);
    both = both.saves(kiln::train::Saves::in_folder(&folder));
    both.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn what_is_frozen_for_the_first_epochs_stays_as_it_was() {
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let weight = net.params.get("fc1.weight").unwrap();
    let before = weight.values().unwrap();
    let body = net.params.root().child("fc1");
    let mut trainer = net.trainer().epochs(1).callback(Freeze::until_epoch(1, &body));
    trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!(weight.values().unwrap(), before);
    let mut trainer = trainer.epochs(2);
    trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_ne!(weight.values().unwrap(), before);
}

#[test]
fn the_rate_range_test_leaves_everything_as_it_was() {
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let mut trainer = net.trainer().epochs(1);
    let range = LrRange { from: 1e-5, to: 10.0, steps: 40, ..Default::default() };
    let before = net.bits();
    let curve = trainer.find_lr(loader(&train), &range, |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!(net.bits(), before);
    assert_eq!(trainer.optimizer_mut("model").map(|adamw| (adamw.lr(), adamw.steps())), Some((0.01, 0)));
    assert!(curve.points.len() > 10 && curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{curve:?}");
    let rate = curve.suggestion().unwrap();
    assert!((1e-4..10.0).contains(&rate), "{rate}: {curve:?}");
    assert!(curve.plot().starts_with("<svg"));
    // And a fit is what it would have been.
    trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    let other = Net::new(&Device::cpu(), 1);
    other.trainer().epochs(1).fit(loader(&train), (), |step, batch| other.step(step, &batch)).unwrap();
    assert_eq!(net.bits(), other.bits());
}

#[test]
fn a_fit_can_be_sent_to_another_thread() {
    let net = Arc::new(Net::new(&Device::cpu(), 1));
    let own = net.clone();
    let mut trainer = net.trainer().epochs(1);
    let (train, _) = data();
    let loader = kiln::data::DataLoader::new(train, 16);
    let future = async move {
        let done = trainer.fit_async(loader, (), move |step, (images, labels)| {
            let n = labels.values.len();
            let x = step.device().tensor(&images.values, &[n, 64]);
            let x = own.layers.forward(&x, step.mode());
            step.minimise(&x.cross_entropy(&step.device().labels(&labels.values)))
        });
        done.await.unwrap().epochs.len()
    };
    assert_eq!(std::thread::spawn(move || pollster::block_on(future)).join().unwrap(), 1);
}

#[test]
fn several_optimizers_and_stores_and_no_data_set() {
    let device = Device::cpu();
    let (actor, critic) = (ParamStore::new(&device, 1), ParamStore::new(&device, 2));
    let (acts, judges) = (Linear::new(&actor.root(), 3, 2), Linear::new(&critic.root(), 3, 1));
    let adam = |params: &ParamStore| Box::new(Adam::new(params, AdamConfig { lr: 0.05, ..Default::default() }));
    let mut trainer = Trainer::new(&actor).store("critic", &critic).epochs(2).log_gradient_norm();
    trainer = trainer.optimizer_named("actor", adam(&actor)).optimizer_named("critic", adam(&critic));
    let history = trainer
        .fit(Rounds::new(5), (), |step, round| {
            let x = step.device().normal(&[4, 3], 0.0, 1.0, round);
            let value = judges.forward(&x, step.mode()).mean_all();
            step.minimise_with("critic", &(&value - 1.0).square())?;
            step.minimise_with("actor", &acts.forward(&x, step.mode()).square().mean_all())
        })
        .unwrap();
    let last = history.last().unwrap();
    let names: Vec<&str> = last.values.keys().map(String::as_str).collect();
    assert_eq!(names, ["actor_loss", "actor_lr", "critic_loss", "critic_lr"]);
    assert!(last.get("critic_loss") < history.epochs[0].get("critic_loss"), "{history:?}");
}

#[test]
#[cfg(feature = "progress")]
fn progress_without_a_terminal_is_a_line_an_epoch_of_at_most_eighty_columns() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let lines = Lines::default();
    let mut trainer = net.trainer().epochs(2).callback(kiln::train::Progress::plain(lines.clone()));
    let history = trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)).unwrap();
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let told: Vec<&str> = text.lines().collect();
    let [loss, of_test] = ["loss", "val_loss"].map(|name| history.epochs[1].get(name).unwrap());
    assert!(told.len() == 2 && told.iter().all(|line| line.len() <= 80), "{text}");
    assert!(told[1].starts_with("epoch 2/2  accuracy 0.") && told[1].ends_with(" s"), "{text}");
    assert!(told[1].contains(&format!("loss {loss:.4} / {of_test:.4}")), "{text}");
}
