//! Fits of several ranks: the history, the weights and the checkpoints of one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kiln::data::DataLoader;
use kiln::distributed::World;
use kiln::prelude::*;
use kiln::train::{Event, History, LrRange, Run, Saves, Stopped, Trainer};

use super::net::on_ranks;

/// A fit on digits.
#[derive(Clone, Default)]
struct Fit {
    /// Batches of a step, those of all ranks.
    accumulate: u64,
    epochs: u64,
    steps: Option<u64>,
    /// Another file, to go on from.
    from: Option<PathBuf>,
    to: Option<PathBuf>,
    /// Set after so many steps, on one rank.
    stops_after: Option<(usize, u64)>,
    workers: usize,
    /// True for a fit of one epoch, and a second one of the same trainer with loaders of its own.
    twice: bool,
}

#[derive(Debug, PartialEq)]
struct Fitted {
    weights: Vec<f64>,
    /// Means of training and validation, epoch by epoch, as text: NaN is equal to itself.
    epochs: Vec<String>,
    stopped: Option<Stopped>,
    steps: u64,
}

/// The history but for the clock.
fn told(history: &History) -> Vec<String> {
    let records = history.epochs.iter().chain(&history.unfinished);
    records.map(|record| format!("{} {} {:?}", record.epoch, record.step, record.values)).collect()
}

fn fit(device: &Device, world: &World, plan: &Fit) -> Result<Fitted> {
    let params = ParamStore::new(device, 7);
    let root = params.root();
    let net = Sequential::new()
        .add(Linear::new(&root.child("hidden"), 64, 32))
        .add(BatchNorm1d::new(&root.child("bn"), 32))
        .add(Tensor::relu)
        .add(Dropout::new(&root.child("dropout"), 0.2))
        .add(Linear::new(&root.child("out"), 32, 10));
    let stop = Arc::new(AtomicBool::new(false));
    let adamw = AdamW::new(&params, AdamWConfig { lr: 0.01, ..Default::default() }).clip_norm(0.5);
    let mut trainer = Trainer::new(&params)
        .optimizer(adamw)
        .log_every(2)
        .accumulate(plan.accumulate.max(1))
        .stop_flag(stop.clone())
        .distributed(world);
    if let Some((rank, step)) = plan.stops_after
        && rank == world.rank()
    {
        trainer = trainer.callback(move |event: Event<'_>, run: &mut Run<'_>| {
            if matches!(event, Event::StepEnd) && run.step() == step {
                stop.store(true, Ordering::Relaxed);
            }
            Ok(())
        });
    }
    if let Some(path) = &plan.to {
        trainer = trainer.saves(Saves::to_file(path).replace());
    }
    if let Some(path) = plan.from.as_ref().filter(|_| world.is_first()) {
        trainer = trainer.resume_from(path);
    }
    if let Some(steps) = plan.steps {
        trainer = trainer.steps(steps);
    }
    let mut history = History::default();
    for epochs in if plan.twice { vec![1, plan.epochs] } else { vec![plan.epochs] } {
        let digits = kiln::data::digits();
        let train = DataLoader::new(digits.train.limit(100), 8).shuffle(3).workers(plan.workers);
        let test = DataLoader::new(digits.test.limit(6), 2);
        trainer = trainer.epochs(epochs);
        history = trainer.fit(train, test, |step, (images, labels)| {
            let images = step.device().tensor(&images.values, &images.shape).reshape(&[labels.values.len(), 64]);
            let logits = net.forward(&images, step.mode());
            let labels = step.device().labels(&labels.values);
            step.metric("accuracy", logits.argmax(1).eq(&labels).cast(DType::F32).mean_all());
            step.minimise(&logits.cross_entropy(&labels))
        })?;
    }
    let weights = params.parameters().iter().map(Param::values).collect::<Result<Vec<_>>>()?.concat();
    Ok(Fitted { weights, epochs: told(&history), stopped: history.stopped.clone(), steps: trainer.step() })
}

fn of_ranks(device: &Device, ranks: usize, plan: &Fit) -> Vec<Fitted> {
    on_ranks(ranks, |world| {
        world.keep_order(true);
        fit(device, &world, plan).unwrap()
    })
}

fn temporary(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("kiln-ranks-{}-{name}.safetensors", std::process::id()))
}

/// Validations follow the running statistics, which are those of rank 0.
fn without_validation(fitted: &Fitted) -> Vec<String> {
    let cut = |line: &String| line.split("\"val_").next().unwrap_or("").to_string();
    fitted.epochs.iter().map(cut).collect()
}

#[test]
fn a_fit_of_ranks_has_the_weights_and_the_history_of_one_that_accumulates() {
    let device = super::net::gpu();
    // 13 batches an epoch: the last step has fewer than the others.
    for (ranks, accumulate, workers) in [(2, 2, 0), (3, 3, 2), (2, 4, 1)] {
        let plan = Fit { accumulate, epochs: 2, workers, ..Fit::default() };
        let one = fit(&device, &World::alone(), &plan).unwrap();
        for (rank, own) in of_ranks(&device, ranks, &plan).iter().enumerate() {
            assert!(own.weights == one.weights, "{ranks} ranks, rank {rank}: other weights");
            assert_eq!(without_validation(own), without_validation(&one), "{ranks} ranks, rank {rank}");
        }
    }
}

#[test]
fn a_fit_goes_on_with_another_number_of_ranks() {
    let device = super::net::gpu();
    let (at_four, whole) = (temporary("four"), Fit { accumulate: 4, epochs: 2, ..Fit::default() });
    let unstopped = of_ranks(&device, 4, &whole).swap_remove(0);
    // Stopped within an epoch, with metrics under way.
    of_ranks(&device, 4, &Fit { steps: Some(3), to: Some(at_four.clone()), ..whole.clone() });
    for ranks in [4, 2] {
        for own in of_ranks(&device, ranks, &Fit { from: Some(at_four.clone()), ..whole.clone() }) {
            assert!(own.weights == unstopped.weights, "on {ranks} ranks: other weights");
            assert_eq!(without_validation(&own), without_validation(&unstopped), "on {ranks} ranks");
        }
    }
    let refused =
        on_ranks(3, |world| fit(&device, &world, &Fit { from: Some(at_four.clone()), accumulate: 0, ..whole.clone() }));
    for error in refused.into_iter().map(|result| result.err().map_or(String::new(), |error| error.to_string())) {
        assert!(error.contains("batches a step 4 there, 3 here"), "{error}");
    }
    std::fs::remove_file(at_four).unwrap();
}

#[test]
fn a_second_fit_shares_its_batches_out_too() {
    let device = Device::cpu();
    let whole = Fit { accumulate: 2, epochs: 2, ..Fit::default() };
    let one = fit(&device, &World::alone(), &whole).unwrap();
    for (rank, own) in of_ranks(&device, 2, &Fit { twice: true, ..whole }).iter().enumerate() {
        assert!(own.weights == one.weights, "rank {rank}: other weights");
        assert_eq!(without_validation(own), without_validation(&one), "rank {rank}");
    }
}

#[test]
fn a_second_fit_of_other_data_is_named() {
    let device = Device::cpu();
    let errors = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let digits = kiln::data::digits();
        let (train, test) = (digits.train.limit(80), digits.test.limit(80));
        let mut trainer = Trainer::new(&params).epochs(1).distributed(&world);
        trainer.fit(train.batches(8), (), |_, _| Ok(()))?;
        let data = if world.is_first() { train } else { test };
        trainer = trainer.epochs(2);
        trainer.fit(data.batches(8), (), |_, _| Ok(()))
    });
    for error in errors.into_iter().map(|result| result.err().map_or(String::new(), |error| error.to_string())) {
        assert!(error.starts_with("rank 1: it has data with the fingerprint"), "{error}");
    }
}

#[test]
fn callbacks_of_a_rank_without_a_batch_are_told_of_its_step_too() {
    let device = Device::cpu();
    // Three batches for two ranks: the second step has one.
    let told = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let digits = kiln::data::digits().train.limit(24);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let (told, batches) = (Arc::new(std::sync::Mutex::new(vec![])), AtomicUsize::new(0));
        let telling = told.clone();
        let mut trainer = Trainer::new(&params).optimizer(sgd).epochs(1).distributed(&world).callback(
            move |event: Event<'_>, run: &mut Run<'_>| {
                let name = match event {
                    Event::StepStart => "start",
                    Event::StepEnd => "end",
                    _ => return Ok(()),
                };
                telling.lock().unwrap().push((name, run.step()));
                Ok(())
            },
        );
        trainer
            .fit(digits.batches(8), (), |step, batch| {
                batches.fetch_add(1, Ordering::Relaxed);
                let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
                step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
            })
            .unwrap();
        (told.lock().unwrap().clone(), batches.into_inner())
    });
    assert_eq!((told[0].1, told[1].1), (2, 1));
    assert_eq!(told[0].0, [("start", 0), ("end", 1), ("start", 1), ("end", 2)]);
    assert_eq!(told[1].0, told[0].0);
}

#[test]
fn a_disk_that_refuses_the_last_checkpoint_is_told_by_rank_0() {
    let device = Device::cpu();
    let folder = std::env::temp_dir().join(format!("kiln-ranks-{}-gone", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let ended = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let digits = kiln::data::digits().train.limit(32);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let gone = folder.clone();
        let mut trainer = Trainer::new(&params)
            .optimizer(sgd)
            .epochs(1)
            .saves(Saves::to_file(folder.join("last.safetensors")).replace())
            .distributed(&world)
            .callback(move |event: Event<'_>, run: &mut Run<'_>| {
                if matches!(event, Event::StepEnd) && run.step() == 2 {
                    // A file where the folder was: nothing can be written below it.
                    let _ = std::fs::remove_dir_all(&gone);
                    std::fs::write(&gone, "").unwrap();
                }
                Ok(())
            });
        trainer.fit(digits.batches(8), (), |step, batch| {
            let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
        })
    });
    std::fs::remove_file(&folder).unwrap();
    assert!(matches!(ended[0], Err(Error::Io { .. })), "{:?}", ended[0].as_ref().err());
    assert!(ended[1].is_ok(), "{:?}", ended[1].as_ref().err());
}

#[test]
fn a_rate_is_looked_for_by_one_rank() {
    let device = Device::cpu();
    let errors = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let digits = kiln::data::digits().train.limit(80);
        let mut trainer = Trainer::new(&params).optimizer(sgd).distributed(&world);
        let found = trainer.find_lr(digits.batches(8), &LrRange { steps: 3, ..LrRange::default() }, |step, batch| {
            let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
        });
        found.err().map_or(String::new(), |error| error.to_string())
    });
    assert!(errors.iter().all(|error| error.contains("a rate is looked for by 2 ranks")), "{errors:?}");
}

#[test]
fn a_stop_flag_of_one_rank_ends_all_behind_the_same_step_and_saves_once() {
    let device = Device::cpu();
    let path = temporary("stopped");
    let plan = Fit { epochs: 9, stops_after: Some((1, 3)), to: Some(path.clone()), ..Fit::default() };
    let all = of_ranks(&device, 2, &plan);
    for own in &all {
        assert_eq!((own.stopped.clone(), own.steps), (Some(Stopped::Flag), 4));
        assert!(own.weights == all[0].weights);
    }
    assert!(Path::new(&path).exists());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_error_in_the_closure_of_one_rank_ends_all_with_its_words() {
    let device = Device::cpu();
    let errors = on_ranks(3, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let digits = kiln::data::digits().train;
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let mut trainer = Trainer::new(&params).optimizer(sgd).epochs(1).distributed(&world);
        let fitted = trainer.fit(digits.batches(8), (), |step, batch| {
            if world.rank() == 2 && step.number() == 2 {
                return Err(Error::Data { what: "a page is torn".into(), next: "mend it" });
            }
            let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
        });
        fitted.err().map_or(String::new(), |error| error.to_string())
    });
    assert!(errors.iter().all(|error| error.contains("a page is torn")), "{errors:?}");
    assert!(errors[0].starts_with("rank 2: "), "{errors:?}");
}

#[test]
fn other_data_are_named_and_only_rank_0_shows() {
    let device = Device::cpu();
    let errors = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let digits = kiln::data::digits().train.limit(80 - 8 * world.rank());
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let mut trainer = Trainer::new(&params).optimizer(sgd).epochs(1).distributed(&world);
        let fitted = trainer.fit(digits.batches(8), (), |step, batch| {
            let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
            step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
        });
        fitted.err().map_or(String::new(), |error| error.to_string())
    });
    assert!(errors.iter().all(|error| error.starts_with("rank 1: it has batches an epoch 9")), "{errors:?}");

    // As many, but others.
    let errors = on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let digits = kiln::data::digits();
        let digits = if world.is_first() { digits.train.limit(80) } else { digits.test.limit(80) };
        let mut trainer = Trainer::new(&params).epochs(1).distributed(&world);
        let fitted = trainer.fit(digits.batches(8), (), |_, _| Ok(()));
        fitted.err().map_or(String::new(), |error| error.to_string())
    });
    assert!(errors.iter().all(|error| error.starts_with("rank 1: it has data with the fingerprint")), "{errors:?}");

    /// Counts what it is told.
    struct Shows(Arc<AtomicUsize>);
    impl kiln::train::Callback for Shows {
        fn is_of_first_rank(&self) -> bool {
            true
        }
        fn on(&mut self, event: Event<'_>, _: &mut Run<'_>) -> Result<()> {
            if matches!(event, Event::EpochEnd(_)) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    }
    let shown = Arc::new(AtomicUsize::new(0));
    on_ranks(2, |world| {
        let params = ParamStore::new(&device, 1);
        let fc = Linear::new(&params.root().child("fc"), 64, 10);
        let digits = kiln::data::digits().train.limit(32);
        let sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
        let mut trainer =
            Trainer::new(&params).optimizer(sgd).epochs(2).callback(Shows(shown.clone())).distributed(&world);
        trainer
            .fit(digits.batches(8), (), |step, batch| {
                let logits = fc.forward(&step.device().tensor(&batch.images, &[batch.len(), 64]), step.mode());
                step.minimise(&logits.cross_entropy(&step.device().labels(&batch.labels)))
            })
            .unwrap();
    });
    assert_eq!(shown.load(Ordering::Relaxed), 2);
}
