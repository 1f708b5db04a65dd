//! What a trainer refuses, and what it says then.

use kiln::prelude::*;
use kiln::schedule::{Goal, Plateau, PlateauConfig};
use kiln::train::{EarlyStopping, Event, Every, LrRange, ReduceOnPlateau, Rounds, Run, Saves, Trainer};

use super::{Net, data, loader};

fn refused(net: &Net, mut trainer: Trainer, validates: bool) -> String {
    let (train, test) = data();
    let fit = match validates {
        true => trainer.fit(loader(&train), test.batches(16), |step, batch| net.step(step, &batch)),
        false => trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)),
    };
    fit.unwrap_err().to_string()
}

#[test]
fn settings_that_cannot_be_used_are_refused_before_anything_is_done() {
    let net = Net::new(&Device::cpu(), 1);
    let trainer = || net.trainer().epochs(1);
    let plateau = || Plateau::new(0.1, PlateauConfig::default());
    let best = |metric| Saves::in_folder("never-made").best(metric, Goal::Min);
    for (trainer, validates, told) in [
        (net.trainer(), false, "nothing ends the fit"),
        (trainer().accumulate(0), false, "a step of 0 batches"),
        (trainer().log_every(0), false, "a log every 0 steps"),
        (trainer().validate_every(Every::Steps(0)), true, "a validation every 0 steps"),
        (trainer().limit_batches(0), false, "epochs of 0 batches"),
        (trainer().optimizer(net.adamw()), false, "two optimizers are called `model`"),
        (trainer().store("model", &net.params), false, "two models are called `model`"),
        (trainer().saves(best("val_loss")), false, "chosen by `val_loss`, and there is no validation"),
        (trainer().saves(Saves::to_file("f").keep_last(2)), false, "there is one file"),
        (trainer().saves(Saves::to_file("f").every(Every::Epochs(0))), false, "checkpoints every 0"),
        (trainer().callback(EarlyStopping::on("val_loss")), false, "the run is to end by `val_loss`"),
        (trainer().callback(EarlyStopping::on("loss").patience(0)), false, "a patience of 0"),
        (trainer().callback(ReduceOnPlateau::on("val_loss", plateau())), false, "the rate is to follow `val_loss`"),
        (trainer().callback(ReduceOnPlateau::on("loss", plateau()).of_optimizer("x")), false, "no optimizer `x`"),
        // Known at the first look.
        (trainer().callback(EarlyStopping::on("f1")), false, "`f1`; there are [accuracy, loss, lr]"),
        (trainer().callback(EarlyStopping::on("val_f1")), true, "`val_f1`; there are [val_accuracy, val_loss]"),
        (trainer().saves(Saves::in_folder(super::unused("best")).best("f1", Goal::Max)), false, "metric `f1`"),
        (Trainer::new(&net.params).epochs(1), false, "no optimizer `model` among []"),
    ] {
        let error = refused(&net, trainer, validates);
        assert!(error.contains(told), "{told}: {error}");
    }
    std::fs::remove_dir_all(super::unused("best")).unwrap_or_default();
}

#[test]
fn a_place_where_no_checkpoint_can_be_written_is_refused_before_the_first_step() {
    let net = Net::new(&Device::cpu(), 1);
    let folder = super::unused("unwritable");
    std::fs::create_dir_all(&folder).unwrap();
    let error = refused(&net, net.trainer().epochs(1).saves(Saves::to_file(&folder).replace()), false);
    assert!(error.contains("it is a folder"), "{error}");
    let file = folder.join("file");
    std::fs::write(&file, "kept").unwrap();
    let error = refused(&net, net.trainer().epochs(1).saves(Saves::in_folder(file.join("run"))), false);
    assert!(error.contains("cannot make"), "{error}");
    assert_eq!(std::fs::read(&file).unwrap(), b"kept");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn data_without_a_batch_are_refused() {
    let net = Net::new(&Device::cpu(), 1);
    let (train, _) = data();
    let none = train.clone().limit(0);
    let mut trainer = net.trainer().epochs(1);
    let step = |step: &mut kiln::train::Step<'_>, batch: kiln::data::Batch| net.step(step, &batch);
    let error = trainer.fit(none.batches(16), (), step).unwrap_err().to_string();
    assert!(error.contains("the training data have no batch"), "{error}");
    let error = trainer.fit(loader(&train), none.batches(16), step).unwrap_err().to_string();
    assert!(error.contains("the validation data have no batch") && error.contains("`()`"), "{error}");
    assert_eq!(trainer.step(), 0);
}

#[test]
fn an_error_or_a_panic_of_a_callback_ends_the_fit_by_its_name() {
    let net = Net::new(&Device::cpu(), 1);
    let fails = |event: Event<'_>, run: &mut Run<'_>| match event {
        Event::StepEnd if run.step() == 2 => Err(Error::Data { what: "no".into(), next: "try again" }),
        _ => Ok(()),
    };
    let error = refused(&net, net.trainer().epochs(1).callback(fails), false);
    assert!(error.starts_with("callback `") && error.ends_with("no; try again"), "{error}");
    let panics = |event: Event<'_>, _: &mut Run<'_>| match event {
        Event::StepEnd => panic!("out of ideas"),
        _ => Ok(()),
    };
    let error = refused(&net, net.trainer().epochs(1).callback(panics), false);
    assert!(error.contains("it panicked: out of ideas"), "{error}");
}

#[test]
fn what_is_wrong_with_a_metric_is_an_error_that_names_it() {
    let net = Net::new(&Device::cpu(), 1);
    let (train, _) = data();
    let fit = |value: fn(&Device) -> Tensor| {
        let mut trainer = net.trainer().epochs(1);
        trainer.fit(loader(&train), (), |step, batch| {
            step.metric("figure", value(step.device()));
            net.step(step, &batch)
        })
    };
    let error = fit(|device| device.ones(&[2, 3])).unwrap_err().to_string();
    assert!(error.contains("metric `figure` has shape [2, 3]") && error.contains("errors.rs"), "{error}");
    let error = fit(|device| device.ones(&[2]) + device.ones(&[3])).unwrap_err();
    assert!(matches!(error, Error::Shape { op: "add", .. }), "{error}");
    // One element of any shape and dtype is a number.
    let history = fit(|device| device.full(&[1, 1], 3.0, DType::I32)).unwrap();
    assert_eq!(history.get("figure"), Some(3.0));
}

#[test]
fn a_rate_range_test_that_cannot_be_done_says_why() {
    let net = Net::new(&Device::cpu(), 1);
    let (train, _) = data();
    let find = |mut trainer: Trainer, range: LrRange| {
        let found = trainer.find_lr(loader(&train), &range, |step, batch| net.step(step, &batch));
        found.unwrap_err().to_string()
    };
    let bad = LrRange { from: 1.0, to: 0.1, ..Default::default() };
    assert!(find(net.trainer(), bad).contains("pass rising rates"));
    let scheduled = Trainer::new(&net.params).optimizer(net.adamw().schedule(kiln::schedule::constant(0.1)));
    assert!(find(scheduled, LrRange::default()).contains("follows a schedule"));
    let mut rounds = Trainer::new(&net.params);
    let error = rounds.find_lr(Rounds::new(0), &LrRange::default(), |_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("no batch"), "{error}");
}
