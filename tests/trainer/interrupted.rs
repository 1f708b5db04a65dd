//! Runs that are stopped or killed anywhere, and go on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kiln::prelude::*;
use kiln::schedule::{Goal, Plateau, PlateauConfig};
use kiln::train::checkpoint::Checkpoint;
use kiln::train::metrics::{Auroc, Average, Confusion, Metric, Score};
use kiln::train::{EarlyStopping, Event, Every, History, ReduceOnPlateau, Run, Saves, Stopped, Trainer};
use serde_json::Value;

use super::{Net, accuracy, data, loader, unused};

/// A run with all that has a state: early stopping, a plateau, the best checkpoint, checkpoints of their own, metrics under
/// way over stretches that end within epochs, steps of several batches, validations within epochs.
fn trainer(net: &Net, folder: &Path) -> Trainer {
    let plateau = Plateau::new(0.02, PlateauConfig { patience: 0, factor: 0.5, ..Default::default() });
    let saves = Saves::in_folder(folder).resume().every(Every::Steps(2)).every(Every::Epochs(1));
    net.trainer()
        .epochs(4)
        .accumulate(2)
        .log_every(2)
        .validate_every(Every::Steps(2))
        .callback(EarlyStopping::on("val_accuracy").goal(Goal::Max).patience(6))
        .callback(ReduceOnPlateau::on("val_loss", plateau))
        .saves(saves.keep_last(2).best("val_loss", Goal::Min))
}

fn fit(trainer: &mut Trainer, net: &Net) -> Result<History> {
    let (train, test) = data();
    // Metrics that are no means too: one of counts, one that keeps whole batches.
    let f1 = Confusion::new(10)?.score(Score::FBeta(1.0, Average::Macro));
    trainer.fit(loader(&train), test.batches(16), |step, batch| {
        let (logits, labels) = net.logits(step.device(), &batch, step.mode());
        step.metric("accuracy", accuracy(&logits, &labels));
        step.metric("f1", f1.clone().of(&logits, &labels));
        step.metric("area", Auroc.of(&logits, &labels));
        step.minimise(&logits.cross_entropy(&labels))
    })
}

/// All that a checkpoint says, but for times.
fn told(path: &Path) -> Value {
    fn without_seconds(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                entries.remove("seconds");
                entries.values_mut().for_each(without_seconds);
            }
            Value::Array(values) => values.iter_mut().for_each(without_seconds),
            _ => {}
        }
    }
    let file = Checkpoint::open(path).unwrap();
    let mut value = file.value("trainer").unwrap().clone();
    without_seconds(&mut value);
    value
}

/// Every bit of a model.
type Bits = Vec<(String, Vec<u64>)>;
/// The name of a checkpoint, what it says, and its weights.
type Left = (String, Value, Bits);

/// The checkpoints in a folder.
fn left(folder: &Path) -> Vec<Left> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    let file = |name: String| {
        let net = Net::new(&Device::cpu(), 99);
        net.params.load(folder.join(&name)).unwrap();
        (name.clone(), told(&folder.join(name)), net.bits())
    };
    names.into_iter().map(file).collect()
}

/// What an undisturbed run ends with.
fn undisturbed(name: &str) -> (Bits, History, Vec<Left>) {
    let (net, folder) = (Net::new(&Device::cpu(), 1), unused(name));
    let history = fit(&mut trainer(&net, &folder), &net).unwrap();
    let left = left(&folder);
    std::fs::remove_dir_all(folder).unwrap();
    (net.bits(), history.without_time(), left)
}

#[test]
fn a_run_that_is_stopped_at_any_step_or_validation_goes_on_to_the_same_bits() {
    let (bits, history, files) = undisturbed("whole");
    assert_eq!(files.len(), 4, "{:?}", files.iter().map(|file| &file.0).collect::<Vec<_>>());
    assert!(history.epochs.len() > 2, "{history:?}");
    let last = history.epochs.last().unwrap().step;
    for (number, within_validation) in (1..=last).map(|step| (step, false)).chain([(2, true), (6, true), (last, true)])
    {
        let folder = unused(&format!("stopped-{number}-{within_validation}"));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let stops = move |event: Event<'_>, run: &mut Run<'_>| {
            let is_there = match event {
                Event::StepEnd => !within_validation,
                Event::ValidationStep { .. } => within_validation,
                _ => false,
            };
            if is_there && run.step() == number {
                flag.store(true, Ordering::Relaxed);
            }
            Ok(())
        };
        let net = Net::new(&Device::cpu(), 1);
        let first = fit(&mut trainer(&net, &folder).stop_flag(stop).callback(stops), &net).unwrap();
        assert_eq!(first.stopped, Some(Stopped::Flag), "{number}");
        // Another seed: everything must come from the file.
        let net = Net::new(&Device::cpu(), 7);
        let resumed = fit(&mut trainer(&net, &folder), &net).unwrap();
        assert_eq!(resumed.without_time(), history, "stopped at {number}, in a validation {within_validation}");
        assert!(net.bits() == bits, "stopped at {number}, in a validation {within_validation}");
        assert!(left(&folder) == files, "stopped at {number}, in a validation {within_validation}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}

const CHILD: &str = "KILN_TEST_TRAINER_FOLDER";

/// This test starts itself, with a folder to train in, and kills what it has started.
#[test]
fn a_run_that_is_killed_again_and_again_goes_on_to_the_same_bits() {
    if let Some(folder) = std::env::var_os(CHILD) {
        let net = Net::new(&Device::cpu(), 1);
        let slowly = |event: Event<'_>, _: &mut Run<'_>| {
            if let Event::StepEnd | Event::ValidationStart | Event::EpochEnd(_) = event {
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        };
        fit(&mut trainer(&net, Path::new(&folder)).callback(slowly), &net).unwrap();
        return;
    }
    let (bits, _, files) = undisturbed("alive");
    let folder = unused("killed");
    let name = "interrupted::a_run_that_is_killed_again_and_again_goes_on_to_the_same_bits";
    let mut kills = 0;
    for attempt in 0u64.. {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--test-threads", "1"])
            .env(CHILD, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Later and later, in steps that hit no rhythm of the run.
        std::thread::sleep(Duration::from_millis(60 + 37 * (attempt % 8) + 40 * (attempt / 8)));
        match child.try_wait().unwrap() {
            Some(status) => {
                assert!(status.success(), "{:?}", child.wait_with_output().unwrap());
                break;
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        }
    }
    assert!(kills >= 2, "it was never killed");
    let last = left(&folder);
    assert!(last == files, "after {kills} kills: {:?}", last.iter().map(|file| &file.0).collect::<Vec<_>>());
    let net = Net::new(&Device::cpu(), 3);
    net.params.load(folder.join("last.safetensors")).unwrap();
    assert!(net.bits() == bits);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_folder_with_a_run_is_refused_resumed_or_replaced_and_the_best_can_be_loaded() {
    let (train, test) = data();
    let folder = unused("folder");
    let net = Net::new(&Device::cpu(), 1);
    let fit = |saves: Saves, epochs: u64| {
        let saves = saves.best("val_loss", Goal::Min);
        let mut trainer = net.trainer().epochs(epochs).saves(saves);
        let history = trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch))?;
        trainer.load_best()?;
        Ok::<_, Error>(history)
    };
    fit(Saves::in_folder(&folder), 1).unwrap();
    let error = fit(Saves::in_folder(&folder), 2).unwrap_err().to_string();
    assert!(error.contains("no checkpoint is overwritten unasked") && error.contains("safetensors"), "{error}");
    assert_eq!(fit(Saves::in_folder(&folder).resume(), 2).unwrap().epochs.len(), 2);
    assert_eq!(fit(Saves::in_folder(&folder).replace(), 1).unwrap().epochs.len(), 1);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_checkpoint_of_another_run_is_refused_with_both_values() {
    let (train, _) = data();
    let folder = unused("other-run");
    let path = folder.join("run.safetensors");
    let net = Net::new(&Device::cpu(), 1);
    let begun = net.trainer().steps(2).saves(Saves::to_file(&path)).setting("data", "digits").fit(
        loader(&train),
        (),
        |step, batch| net.step(step, &batch),
    );
    begun.unwrap();
    let before = net.bits();
    let resume = |net: &Net, loader: kiln::data::Loader<'_>, data: &str, accumulate: u64| {
        let mut trainer = net.trainer().steps(4).resume_from(&path).setting("data", data).accumulate(accumulate);
        trainer.fit(loader, (), |step, batch| net.step(step, &batch)).unwrap_err().to_string()
    };
    let shuffled = |size, seed| train.batches(size).shuffle(seed);
    let fewer = train.clone().limit(80);
    for (error, told) in [
        (resume(&net, shuffled(15, 5), "digits", 1), "batch size 16 there, 15 here"),
        (resume(&net, shuffled(16, 6), "digits", 1), "seed of the order 5 there, 6 here"),
        (resume(&net, fewer.batches(16).shuffle(5), "digits", 1), "training images 90 there, 80 here"),
        (resume(&net, shuffled(16, 5), "mnist", 1), "data digits there, mnist here"),
        (resume(&net, shuffled(16, 5), "digits", 3), "batches a step 1 there, 3 here"),
        (
            resume(&Net::of_width(&Device::cpu(), 1, 9), shuffled(16, 5), "digits", 1),
            "`fc1.weight` has shape [8, 64], where [9, 64] is wanted",
        ),
    ] {
        assert!(error.contains(told) && error.contains("run.safetensors"), "{error}");
    }
    assert!(net.bits() == before);
    let missing = net
        .trainer()
        .steps(4)
        .resume_from(folder.join("none"))
        .fit(loader(&train), (), |step, batch| net.step(step, &batch));
    assert!(matches!(missing, Err(Error::Io { .. })), "{missing:?}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[cfg(all(unix, feature = "signals"))]
fn a_signal_ends_a_fit_behind_its_step() {
    use nix::sys::signal::{Signal, raise};
    let stop = kiln::train::stop_on_signals().unwrap();
    assert!(kiln::train::stop_on_signals().is_err(), "handlers are installed once");
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let flag = stop.clone();
    let raises = move |event: Event<'_>, run: &mut Run<'_>| {
        if matches!(event, Event::StepEnd) && run.step() == 3 {
            raise(Signal::SIGTERM).unwrap();
            // The handler runs on a thread of its own.
            while !flag.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    };
    let mut trainer = net.trainer().epochs(3).stop_flag(stop).callback(raises);
    let history = trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    assert_eq!((history.stopped, trainer.step()), (Some(Stopped::Flag), 3));
}
