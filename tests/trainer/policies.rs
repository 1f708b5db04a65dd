//! What goes wrong without ending a run: steps that are not finite, memory that is used up, metrics that get no better.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use kiln::prelude::*;
use kiln::train::{EarlyStopping, Event, Every, NotFinite, Rounds, Run, Saves, Stopped, Trainer};

use super::{Net, data, loader, unused};

/// A weight that falls by 0.25 in each step whose loss is finite.
fn falling(device: &Device) -> (ParamStore, Param, Trainer) {
    let params = ParamStore::new(device, 1);
    let weight = params.root().param("weight", &[2], Init::Ones);
    let sgd = Sgd::new(&params, SgdConfig { lr: 0.25, ..Default::default() });
    let trainer = Trainer::new(&params).optimizer(sgd);
    (params, weight, trainer)
}

#[test]
fn steps_that_are_not_finite_are_skipped_as_often_as_allowed() {
    for device in [Device::cpu(), Device::named("vulkan").expect("a Vulkan driver: `make test` installs one")] {
        let fit = |policy: NotFinite| {
            let (_params, weight, trainer) = falling(&device);
            let skipped = Arc::new(AtomicU64::new(0));
            let told = skipped.clone();
            let listen = move |event: Event<'_>, _: &mut Run<'_>| {
                if let Event::Skipped(_) = event {
                    told.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let mut trainer = trainer.epochs(1).not_finite(policy).callback(listen);
            let history = trainer.fit(Rounds::new(8), (), |step, round| {
                let factor = if round == 2 || round == 7 { f64::NAN } else { 1.0 };
                step.minimise(&(weight.tensor().sum_all() * factor))
            });
            (history, weight.values(), skipped.load(Ordering::Relaxed))
        };
        let (history, weight, told) = fit(NotFinite::Skip(2));
        let history = history.unwrap();
        // Both may be known at once.
        assert!(history.skipped == 2 && (1..=2).contains(&told), "{} {told}", history.skipped);
        assert_eq!(weight.unwrap(), [1.0 - 6.0 * 0.25; 2]);
        assert!(history.get("loss").unwrap().is_nan());
        let (history, ..) = fit(NotFinite::Skip(1));
        assert!(matches!(history, Err(Error::NonFinite { .. })), "{history:?}");
        let (history, ..) = fit(NotFinite::Stop);
        assert!(matches!(history, Err(Error::NonFinite { .. })), "{history:?}");
    }
}

#[test]
fn weights_go_back_to_the_last_checkpoint_and_data_go_on() {
    let (_params, weight, trainer) = falling(&Device::cpu());
    let folder = unused("back");
    let saves = Saves::in_folder(&folder).every(Every::Steps(4));
    let mut trainer = trainer.epochs(1).not_finite(NotFinite::GoBack(1)).saves(saves);
    let mut rounds = vec![];
    let history = trainer
        .fit(Rounds::new(10), (), |step, round| {
            rounds.push(round);
            let factor = if round == 6 { f64::INFINITY } else { 1.0 };
            step.minimise(&(weight.tensor().sum_all() * factor))
        })
        .unwrap();
    assert_eq!(rounds, (0..10).collect::<Vec<_>>());
    assert_eq!((history.skipped, trainer.step()), (1, 10));
    // Four steps, then two that were lost with the seventh, which was none, then what was left. That the seventh was refused
    // is known at the eighth, whose batch is passed over.
    let steps = (1.0 - weight.values().unwrap()[0]) / 0.25;
    assert!(steps == 6.0 || steps == 7.0, "{steps}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn batches_are_halved_when_memory_is_used_up_and_updates_stay_the_same() {
    let (train, _) = data();
    let device = Device::cpu();
    let fit = |most: usize, folder: Option<&std::path::Path>, steps: Option<u64>| {
        let params = ParamStore::new(&device, 3);
        let layer = Linear::new(&params.root(), 64, 10);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let mut trainer = Trainer::new(&params).optimizer(sgd).epochs(2).halve_on_out_of_memory();
        if let Some(folder) = folder {
            trainer = trainer.saves(Saves::in_folder(folder).resume());
        }
        if let Some(steps) = steps {
            trainer = trainer.steps(steps);
        }
        let fit = trainer.fit(train.batches(16).shuffle(3), (), |step, batch| {
            if batch.len() > most {
                return Err(Error::OutOfMemory { what: "a test".into(), bytes: 1, used: 1, limit: 1 });
            }
            let x = step.device().tensor(&batch.images, &[batch.len(), 64]);
            step.minimise(&layer.forward(&x, step.mode()).cross_entropy(&step.device().labels(&batch.labels)))
        });
        let weights: Vec<f64> = params.parameters().iter().flat_map(|p| p.values().unwrap()).collect();
        (fit, weights, trainer.step())
    };
    let (whole, weights, steps) = fit(16, None, None);
    let (halved, same, as_many) = fit(4, None, None);
    let (whole, halved) = (whole.unwrap(), halved.unwrap());
    assert_eq!((steps, as_many, halved.warnings.len(), whole.warnings.len()), (12, 12, 2, 0));
    // Shares of losses are rounded to f32.
    assert!(weights.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-7));
    let losses = [&whole, &halved].map(|history| history.get("loss").unwrap());
    assert!((losses[0] - losses[1]).abs() < 1e-7, "{losses:?}");
    // A run that is resumed goes on with the small batches.
    let folder = unused("halved");
    fit(4, Some(&folder), Some(5)).0.unwrap();
    let (resumed, again, _) = fit(4, Some(&folder), None);
    assert_eq!(resumed.unwrap().warnings.len(), 2);
    assert!(again == same);
    std::fs::remove_dir_all(folder).unwrap();
    // A batch of one image cannot be halved.
    assert!(matches!(fit(0, None, None).0, Err(Error::OutOfMemory { .. })));
}

/// A fit whose `val_loss` has these values, one an epoch.
fn watched(losses: &[f64], stopping: EarlyStopping) -> (u64, Option<Stopped>) {
    let (params, weight, trainer) = falling(&Device::cpu());
    let losses = losses.to_vec();
    let mut trainer = trainer.epochs(losses.len() as u64).callback(stopping);
    let history = trainer
        .fit(Rounds::new(1), Rounds::new(1), |step, _| {
            if step.is_training() {
                return step.minimise(&weight.tensor().sum_all());
            }
            step.metric("loss", params.device().tensor(&[losses[step.epoch() as usize]], &[1]));
            Ok(())
        })
        .unwrap();
    (history.epochs.len() as u64, history.stopped)
}

#[test]
fn a_run_ends_when_a_metric_gets_no_better_and_nan_is_no_better() {
    let stopping = || EarlyStopping::on("val_loss").patience(2);
    assert_eq!(watched(&[3.0, 2.0, 1.0, 0.5], stopping()), (4, Some(Stopped::Epochs)));
    let (epochs, why) = watched(&[3.0, 2.0, 2.0, 2.5, 0.0], stopping());
    assert_eq!(epochs, 4);
    assert!(matches!(&why, Some(Stopped::Callback(why)) if why.contains("val_loss") && why.contains("2.0")), "{why:?}");
    assert_eq!(watched(&[3.0, f64::NAN, f64::NAN, 1.0], stopping()).0, 3);
    assert_eq!(watched(&[f64::NAN, 5.0, f64::NAN, 1.0, 0.5], stopping()).0, 5);
    assert_eq!(watched(&[3.0, 2.95, 2.93, 1.0], stopping().by(0.1)).0, 3);
}

#[test]
fn a_full_disk_is_told_once_and_ends_no_run() {
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let calls = Arc::new(AtomicU64::new(0));
    let count = calls.clone();
    let logs = move |event: Event<'_>, _: &mut Run<'_>| {
        let Event::StepEnd = event else { return Ok(()) };
        count.fetch_add(1, Ordering::Relaxed);
        let source = Arc::new(std::io::Error::from(std::io::ErrorKind::StorageFull));
        Err(Error::Io { path: "log.csv".into(), action: "write", source })
    };
    let shown = Arc::new(Mutex::new(vec![]));
    let to = shown.clone();
    let shows = move |event: Event<'_>, run: &mut Run<'_>| {
        if let Event::Warning(text) = event {
            run.warning_shown();
            to.lock().unwrap().push(text.to_string());
        }
        Ok(())
    };
    let mut trainer = net.trainer().epochs(1).callback(logs).callback(shows);
    let history = trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((calls.load(Ordering::Relaxed), trainer.step()), (6, 6));
    assert_eq!(history.warnings, *shown.lock().unwrap());
    assert!(history.warnings.len() == 1 && history.warnings[0].contains("make room on that disk"), "{history:?}");
}

#[test]
fn a_checkpoint_that_the_disk_refuses_is_tried_again() {
    let (train, _) = data();
    let folder = unused("refused");
    let fit = |lost: std::ops::Range<u64>| {
        let net = Net::new(&Device::cpu(), 1);
        let own = folder.clone();
        // A file in the folder's place refuses everything.
        let disturbs = move |event: Event<'_>, run: &mut Run<'_>| {
            if matches!(event, Event::StepEnd) && run.step() == lost.start {
                std::fs::remove_dir_all(&own).unwrap();
                std::fs::write(&own, "").unwrap();
            }
            if matches!(event, Event::StepStart) && run.step() + 1 == lost.end {
                std::fs::remove_file(&own).unwrap();
                std::fs::create_dir(&own).unwrap();
            }
            if matches!(event, Event::Warning(_)) {
                run.warning_shown();
            }
            Ok(())
        };
        let saves = Saves::in_folder(&folder).every(Every::Steps(1));
        let mut trainer = net.trainer().epochs(1).callback(disturbs).saves(saves);
        trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch))
    };
    assert_eq!(fit(2..3).unwrap().warnings.len(), 1);
    assert!(folder.join("last.safetensors").is_file());
    std::fs::remove_dir_all(&folder).unwrap();
    // The last one of all counts.
    let error = fit(2..100).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    std::fs::remove_file(&folder).unwrap();
}
