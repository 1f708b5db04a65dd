//! What resumes, what is saved, and what is refused of both.

use kiln::optim::{Average, AverageState, Ema, LastN, Swa};
use kiln::prelude::*;
use kiln::schedule::{Plateau, PlateauConfig};
use kiln::train::checkpoint::Checkpoint;

use super::{Model, devices, run};

/// Steps, in the middle of which everything goes to the host and into new objects, or not.
fn resumed(device: &Device, resumes: bool) -> (Vec<f64>, [AverageState; 3], [Vec<f64>; 3]) {
    let mut model = Model::new(device, None);
    let make = |model: &Model| {
        let params = &model.params;
        let (ema, swa) = (Ema::new(params, 0.75).warm_up(), Swa::new(params, 2, 3));
        let last = LastN::new(params, 3, 2);
        let sgd = model.sgd().average(&ema).average(&swa).average(&last);
        (sgd, [(*ema).clone(), (*swa).clone(), (*last).clone()])
    };
    let (mut sgd, mut averages) = make(&model);
    run(&model, &mut sgd, 0..4);
    // A parameter that comes later has fewer weights in its averages.
    let add = |model: &mut Model| {
        let late = model.params.root().param("late", &[9], Init::Ones);
        model.all.push(late);
    };
    add(&mut model);
    run(&model, &mut sgd, 4..7);
    if resumes {
        let (weights, state) = (model.all.iter().map(|p| p.values().unwrap()), sgd.state().unwrap());
        let (weights, states) = (weights.collect::<Vec<_>>(), averages.map(|average| average.state().unwrap()));
        model = Model::new(device, None);
        add(&mut model);
        model.all.iter().zip(&weights).for_each(|(param, values)| param.set(values).unwrap());
        (sgd, averages) = make(&model);
        sgd.set_state(&state).unwrap();
        averages.iter().zip(&states).for_each(|(average, state)| average.set_state(state).unwrap());
    }
    run(&model, &mut sgd, 7..11);
    let states = averages.each_ref().map(|average| average.state().unwrap());
    (model.weights(), states, averages.each_ref().map(|average| model.averaged(average)))
}

#[test]
fn a_resumed_average_goes_on_to_the_same_bits() {
    for device in devices() {
        let (want, got) = (resumed(&device, false), resumed(&device, true));
        assert_eq!((got.0, got.2), (want.0, want.2), "{}", device.name());
        for (mut got, mut want) in got.1.into_iter().zip(want.1) {
            // Arenas are others, and with them the order.
            got.tensors.sort_by(|a, b| a.0.cmp(&b.0));
            want.tensors.sort_by(|a, b| a.0.cmp(&b.0));
            assert_eq!(got, want);
        }
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    for device in devices() {
        let model = Model::new(&device, None);
        let (ema, last) = (Ema::new(&model.params, 0.5), LastN::new(&model.params, 2, 1));
        let mut sgd = model.sgd().average(&ema).average(&last);
        run(&model, &mut sgd, 0..3);
        let states = [ema.state().unwrap(), last.state().unwrap()];
        let refuse = |average: &Average, change: &dyn Fn(&mut AverageState), word: &str| {
            let before = average.state().unwrap();
            let mut state = before.clone();
            change(&mut state);
            match average.set_state(&state) {
                Err(Error::Value { what, .. }) => assert!(what.contains(word), "{what}"),
                other => panic!("{word}: {other:?}"),
            }
            assert_eq!(average.state().unwrap(), before);
        };
        refuse(&ema, &|state| *state = states[1].clone(), "last 2");
        refuse(&ema, &|state| state.steps = 1 << 40, "no count");
        refuse(&ema, &|state| state.counts[0].1 = 4, "no count");
        refuse(&ema, &|state| state.counts[0].0 = "nobody".into(), "nobody");
        refuse(&ema, &|state| state.counts.extend_from_within(..1), "twice");
        refuse(&ema, &|state| state.tensors.extend_from_within(..1), "twice");
        refuse(&ema, &|state| drop(state.tensors.pop()), "lacks");
        refuse(&ema, &|state| state.tensors[1].2[0] = f64::NAN, "NaN");
        refuse(&ema, &|state| drop(state.counts.remove(0)), "not kept");
        refuse(&ema, &|state| state.tensors[0].2.push(0.0), "number of values");
        refuse(&last, &|state| drop(state.tensors.remove(0)), "lacks");
        refuse(&last, &|state| state.tensors[0].0 = "7.p0".into(), "lacks");
        for (average, state) in [&*ema, &*last].into_iter().zip(&states) {
            average.set_state(state).unwrap();
            assert_eq!(average.state().unwrap(), *state);
        }
    }
}

#[test]
fn a_saved_average_is_what_stands_in_for_the_weights() {
    let folder = std::env::temp_dir();
    for device in devices() {
        let path = folder.join(format!("kiln-averages-{}-{}.safetensors", std::process::id(), device.is_cpu()));
        let model = Model::new(&device, Some(192));
        let (ema, last) = (Ema::new(&model.params, 0.5).after(1), LastN::new(&model.params, 2, 1));
        let mut sgd = model.sgd().average(&ema).average(&last);
        run(&model, &mut sgd, 0..3);
        for (average, other) in [(&*ema, &*last), (&*last, &*ema)] {
            let want: Vec<f64> = model.averaged(average).iter().map(|&x| f64::from(x as f32)).collect();
            let version = model.params.version();
            let saved = || {
                average.save(&path).unwrap();
                let loaded = Model::new(&device, None);
                loaded.params.load(&path).unwrap();
                loaded.weights()
            };
            assert_eq!(saved(), want);
            assert_eq!(model.params.version(), version);
            let kept = average.swap_in().unwrap();
            assert_eq!(saved(), want);
            assert!(matches!(other.save(&path), Err(Error::Value { op: "save", .. })));
            drop(kept);
        }
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn averages_and_plateaus_are_parts_of_a_checkpoint() {
    let path = std::env::temp_dir().join(format!("kiln-averages-part-{}.safetensors", std::process::id()));
    for device in devices() {
        let whole = |stop: bool| {
            let make = |model: &Model| {
                let (ema, last) = (Ema::new(&model.params, 0.75).warm_up(), LastN::new(&model.params, 3, 2));
                let sgd = model.sgd().average(&ema).average(&last);
                (sgd, ema, last, Plateau::new(0.1, PlateauConfig { patience: 0, ..Default::default() }))
            };
            let mut model = Model::new(&device, None);
            let (mut sgd, mut ema, mut last, mut plateau) = make(&model);
            run(&model, &mut sgd, 0..5);
            plateau.observe(1.0);
            plateau.observe(1.0);
            if stop {
                let parts = Checkpoint::parts().store("model", &model.params).part("model", &sgd);
                let parts = parts.part("ema", &ema).part("last", &last).part("rate", &plateau);
                parts.save(&path).unwrap();
                model = Model::new(&device, None);
                (sgd, ema, last, plateau) = make(&model);
                run(&model, &mut sgd, 2..4);
                let file = Checkpoint::open(&path).unwrap();
                let loading = file.load().store("model", &model.params).part("model", &mut sgd);
                let loading = loading.part("ema", &mut ema).part("last", &mut last).part("rate", &mut plateau);
                loading.finish().unwrap();
            }
            run(&model, &mut sgd, 5..9);
            let rate = plateau.observe(1.0);
            (model.weights(), model.averaged(&ema), model.averaged(&last), rate.to_bits())
        };
        assert!(whole(true) == whole(false), "{}", device.name());
        // An average of another kind, and a damaged state, are refused with nothing changed.
        let model = Model::new(&device, None);
        let mut swa = Swa::new(&model.params, 1, 1);
        let file = Checkpoint::open(&path).unwrap();
        let refused = file.load().part("ema", &mut swa).finish();
        assert!(matches!(refused, Err(Error::Checkpoint { .. })), "{refused:?}");
        assert_eq!(swa.state().unwrap().steps, 0);
    }
    std::fs::remove_file(&path).unwrap();
}
