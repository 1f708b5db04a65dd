//! Metrics that are no means, numbers of a last test, and what a resumed run tells.

use std::sync::{Arc, Mutex};

use kiln::prelude::*;
use kiln::train::metrics::{Accuracy, Auroc, Average, Confusion, ConfusionMatrix, Metric, Residual, Score};
use kiln::train::{Event, Run, Step};

use super::{Net, accuracy, data, loader, unused};

/// What happens with a batch: F1 and areas beside accuracy and loss.
fn measured(net: &Net, step: &mut Step<'_>, batch: &kiln::data::Batch) -> Result<()> {
    let (logits, labels) = net.logits(step.device(), batch, step.mode());
    step.metric("accuracy", accuracy(&logits, &labels));
    step.metric("f1", Confusion::new(10)?.score(Score::FBeta(1.0, Average::Macro)).of(&logits, &labels));
    step.metric("area", Auroc.of(&logits.softmax(1), &labels));
    step.minimise(&logits.cross_entropy(&labels))
}

#[test]
fn a_metric_that_is_no_mean_has_its_figure_in_the_history_and_its_parts_in_an_event() {
    let (train, test) = data();
    let net = Net::new(&Device::cpu(), 1);
    let told = Arc::new(Mutex::new(vec![]));
    let seen = told.clone();
    let listens = move |event: Event<'_>, _: &mut Run<'_>| {
        if let Event::Figures { validation, figures } = event {
            let total = figures.matrix().map(ConfusionMatrix::total);
            let areas = figures.get("area").map(|figure| figure.by_class.len());
            seen.lock().unwrap().push((validation, total, areas));
        }
        Ok(())
    };
    let mut trainer = net.trainer().epochs(2).callback(listens);
    // Batches of 15 do not divide the 40 images.
    let history = trainer.fit(loader(&train), test.batches(15), |step, batch| measured(&net, step, &batch)).unwrap();
    let each = [(true, Some(40), Some(10)), (false, Some(90), Some(10))];
    assert_eq!(*told.lock().unwrap(), [each, each].concat());

    // The same from predictions of all images at once.
    let images = net.params.device().tensor(test.images(), &[40, 64]);
    let guesses = no_grad(|| net.layers.forward(&images, Mode::Eval)).argmax(1).to_vec::<u32>().unwrap();
    let mut matrix = ConfusionMatrix::new(10).unwrap();
    matrix.record_all(test.labels(), &guesses).unwrap();
    let f1 = matrix.score(Score::FBeta(1.0, Average::Macro));
    assert_eq!(history.get("val_f1"), Some(f1));
    assert!(history.get("f1").is_some() && history.get("area").is_some_and(|area| area > 0.5), "{history:?}");

    // A last test says the same, in other batches; its time is not that of training.
    let took = trainer.training_time();
    let (record, figures) = trainer.evaluate(test.batches(16), |step, batch| measured(&net, step, &batch)).unwrap();
    assert_eq!((record.get("f1"), figures.matrix()), (Some(f1), Some(&matrix)));
    assert!((record.get("loss").unwrap() - history.get("val_loss").unwrap()).abs() < 1e-6);
    assert_eq!(trainer.history().validations.len(), 2);
    assert_eq!(trainer.training_time(), took);
    assert!(!took.is_zero());
}

#[test]
fn a_batch_of_a_validation_runs_its_forward_pass_once_whatever_is_made_of_it() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let (train, test) = data();
    let net = Net::new(&device, 1);
    let mut trainer = net.trainer().epochs(1);
    trainer.fit(loader(&train), (), |step, batch| measured(&net, step, &batch)).unwrap();
    let mut submissions = |size: usize| {
        let before = device.statistics().runs;
        trainer.evaluate(test.batches(size), |step, batch| measured(&net, step, &batch)).unwrap();
        device.statistics().runs - before
    };
    assert_eq!(submissions(10) - submissions(40), 3, "one for each of the three further batches");
}

#[test]
fn a_name_for_a_number_and_for_a_metric_ends_the_fit_and_so_does_what_a_metric_refuses() {
    let (train, _) = data();
    let net = Net::new(&Device::cpu(), 1);
    let fails = |record: fn(&mut Step<'_>, &Tensor, &Tensor)| {
        let fit = net.trainer().epochs(1).fit(loader(&train), (), |step, batch| {
            let (logits, labels) = net.logits(step.device(), &batch, step.mode());
            record(step, &logits, &labels);
            step.minimise(&logits.cross_entropy(&labels))
        });
        fit.unwrap_err().to_string()
    };
    let twice = fails(|step, logits, labels| {
        step.metric("right", accuracy(logits, labels));
        step.metric("right", Accuracy::new().of(logits, labels));
    });
    assert!(twice.contains("`right` is recorded as a number and by a metric"), "{twice}");
    let misfit = fails(|step, logits, labels| step.metric("mae", Residual::Mae.of(logits, labels)));
    assert!(misfit.contains("floats") && misfit.contains("figures.rs"), "{misfit}");
}

#[test]
fn a_run_that_goes_on_tells_what_has_changed_and_outputs_are_tried_first() {
    let (train, _) = data();
    let folder = unused("changed");
    let path = folder.join("run.safetensors");
    let net = Net::new(&Device::cpu(), 1);
    let mut trainer = net.trainer().steps(2).noted("rate", 0.01).noted("colour", "red").output(folder.join("a/out"));
    assert!(trainer.save(&path).unwrap_err().to_string().contains("save after a fit"));
    trainer.fit(loader(&train), (), |step, batch| net.step(step, &batch)).unwrap();
    trainer.save(&path).unwrap();
    assert!(folder.join("a").is_dir() && std::fs::read_dir(folder.join("a")).unwrap().count() == 0);
    let told = Arc::new(Mutex::new(vec![]));
    let seen = told.clone();
    let listens = move |event: Event<'_>, _: &mut Run<'_>| {
        if let Event::Changed { name, before, now } = event {
            seen.lock().unwrap().push(format!("{name} {before} {now}"));
        }
        Ok(())
    };
    let resumed = Net::new(&Device::cpu(), 9);
    let mut trainer = resumed.trainer().steps(4).noted("rate", 0.02).noted("colour", "red").callback(listens);
    trainer = trainer.resume_from(&path);
    trainer.fit(loader(&train), (), |step, batch| resumed.step(step, &batch)).unwrap();
    assert_eq!(*told.lock().unwrap(), ["rate 0.01 0.02"]);
    assert!(trainer.items() == 32 && trainer.training_time() > std::time::Duration::ZERO);
    // The same bits as a run that was not saved in between.
    let whole = Net::new(&Device::cpu(), 1);
    whole.trainer().steps(4).fit(loader(&train), (), |step, batch| whole.step(step, &batch)).unwrap();
    assert!(resumed.bits() == whole.bits());
    let refused = net.trainer().steps(9).output(&folder).fit(loader(&train), (), |step, batch| net.step(step, &batch));
    assert!(refused.unwrap_err().to_string().contains("it is a folder"));
    std::fs::remove_dir_all(folder).unwrap();
}
