//! What the environment forbids: memory beyond a limit, drivers that are not there, names that nothing has.
//!
//! Each test runs its body in a process of its own, because the environment is read when a device is made.

mod common;

use std::process::Command;

use kiln::prelude::*;

/// Set in the process that runs the body of the test it names.
const INSIDE: &str = "KILN_TEST_INSIDE";

/// Nothing that the Vulkan loader or EGL could open.
const NO_DRIVER: [(&str, &str); 4] = [
    ("VK_DRIVER_FILES", "/nonexistent"),
    ("VK_ICD_FILENAMES", "/nonexistent"),
    ("__EGL_VENDOR_LIBRARY_FILENAMES", "/nonexistent"),
    ("__EGL_VENDOR_LIBRARY_DIRS", "/nonexistent"),
];

/// Runs `body` with these variables set, in a child process that runs `test` alone.
fn with(test: &str, settings: &[(&str, &str)], body: fn()) {
    said(test, settings, body);
}

/// [`with`], and what the child wrote to stderr; `None` in the child itself.
fn said(test: &str, settings: &[(&str, &str)], body: fn()) -> Option<String> {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        body();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env(INSIDE, test).env_remove("KILN_DEVICE");
    // What a program finds that no desktop has started.
    child.env_remove("XDG_RUNTIME_DIR").env_remove("WAYLAND_DISPLAY");
    let output = child.envs(settings.iter().copied()).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{test} is not the name of this test: {out}");
    Some(err.into_owned())
}

#[test]
fn memory_beyond_the_limit_is_refused_before_the_driver_is_asked() {
    with(
        "memory_beyond_the_limit_is_refused_before_the_driver_is_asked",
        &[("KILN_MEMORY_LIMIT", "1000000"), ("KILN_DEVICE", "vulkan")],
        || {
            let device = common::gpu();
            let small = device.ones(&[1000]) * 2.0;
            device.eval(&[&small]).unwrap();
            let refused = || (device.ones(&[1_000_000]) * 2.0).to_vec::<f32>().unwrap_err();
            let error = refused();
            let text = error.to_string();
            match error {
                Error::OutOfMemory { bytes, used, limit, .. } => {
                    // With what the host's numbers and small results pass through.
                    assert!((4_000_000..4_020_000).contains(&bytes) && limit == 1_000_000, "{bytes} {limit}");
                    assert!(used <= limit);
                }
                other => panic!("{other}"),
            }
            assert!(text.contains("KILN_MEMORY_LIMIT") && text.contains("1000000"), "{text}");
            // It says what the plan needs and for what.
            assert!(text.contains("4000000 bytes at peak") && text.contains("[1000000] 4000000 bytes"), "{text}");
            // The plan stays, for when there is room; beside it nothing is made or kept.
            let before = (device.driver_counters(), device.memory());
            for _ in 0..3 {
                assert!(matches!(refused(), Error::OutOfMemory { .. }));
            }
            assert_eq!((device.driver_counters(), device.memory()), before);
            // Uploads and parameters are held to it too.
            let upload = device.tensor(&vec![1.0f32; 300_000], &[300_000]);
            assert!(matches!(upload.sum_all().item(), Err(Error::OutOfMemory { .. })));
            let store = ParamStore::new(&device, 1);
            let weight = store.root().param("weight", &[1000, 1000], Init::Zeros);
            assert!(matches!(weight.tensor().sum_all().item(), Err(Error::OutOfMemory { .. })));
            // The device still works, on old tensors and new ones.
            assert_eq!(small.to_vec::<f32>().unwrap(), [2.0; 1000]);
            assert_eq!((device.ones(&[10_000]) * 3.0).sum_all().item().unwrap(), 30_000.0);
            let (used, peak) = device.memory();
            assert!(used <= 1_000_000 && peak <= 1_000_000, "{used} {peak}");
        },
    );
}

#[test]
fn training_goes_on_after_a_batch_that_did_not_fit() {
    with(
        "training_goes_on_after_a_batch_that_did_not_fit",
        &[("KILN_MEMORY_LIMIT", "2000000"), ("KILN_DEVICE", "vulkan")],
        || {
            let run = |too_large: bool| {
                // A device for each run: nothing cached of the other.
                let device = Device::best().unwrap();
                let params = ParamStore::new(&device, 3);
                let root = params.root();
                let fc1 = Linear::new(&root.child("fc1"), 16, 64);
                let fc2 = Linear::new(&root.child("fc2"), 64, 5);
                let loss = |rows: usize, step: u64| {
                    let (x, labels) = common::net::batch(&device, rows, step);
                    fc2.forward(&fc1.forward(&x, Mode::Train).relu(), Mode::Train).cross_entropy(&labels)
                };
                let values = || [&fc1.weight, &fc2.weight].map(|weight| weight.values().unwrap());
                let mut optimizer = AdamW::new(&params, AdamWConfig::default()).clip_norm(1.0);
                let mut losses = vec![];
                for step in 0..6 {
                    if step == 3 && too_large {
                        let before = values();
                        for _ in 0..2 {
                            let error = optimizer.step(&loss(20_000, step)).unwrap_err();
                            assert!(matches!(error, Error::OutOfMemory { limit: 2_000_000, .. }), "{error}");
                            assert_eq!((optimizer.steps(), values()), (3, before.clone()));
                        }
                    }
                    let loss = loss(32, step);
                    optimizer.step(&loss).unwrap();
                    losses.push(loss.item().unwrap());
                }
                (losses, values())
            };
            assert_eq!(run(true), run(false));
        },
    );
}

#[test]
fn a_memory_limit_that_is_no_number_is_a_setting_to_correct() {
    with(
        "a_memory_limit_that_is_no_number_is_a_setting_to_correct",
        &[("KILN_MEMORY_LIMIT", "2 GB"), ("KILN_DEVICE", "vulkan")],
        || {
            let error = Device::best().unwrap_err();
            assert!(
                matches!(&error, Error::Setting { name, value, .. } if name == "KILN_MEMORY_LIMIT" && value == "2 GB")
            );
            assert!(error.to_string().contains("whole number of bytes"), "{error}");
        },
    );
}

#[test]
fn an_empty_variable_is_as_good_as_unset() {
    let names = ["DEVICE", "CHECK", "MEMORY_LIMIT", "PROFILE", "TUNE", "TUNE_SECONDS", "AFFINITY", "SHOW_SHADERS"];
    let names: Vec<String> = names.iter().map(|name| format!("KILN_{name}")).collect();
    let settings: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let err = said("an_empty_variable_is_as_good_as_unset", &settings, || {
        let device = common::gpu();
        assert_eq!((device.ones(&[3]) * 2.0).to_vec::<f32>().unwrap(), [2.0; 3]);
        assert!(Device::named("cpu").is_ok());
    });
    assert!(err.is_none_or(|err| !err.contains("kiln")));
}

#[test]
fn checks_are_on_where_the_variable_says_so_and_off_where_it_says_so() {
    let test = "checks_are_on_where_the_variable_says_so_and_off_where_it_says_so";
    for (value, on) in [("off", "0"), ("0", "0"), ("", "0"), ("on", "1"), ("1", "1")] {
        with(test, &[("KILN_CHECK", value), ("CHECKED", on), ("KILN_DEVICE", "vulkan")], || {
            let device = common::gpu();
            let params = ParamStore::new(&device, 1);
            let weight = params.root().param("weight", &[3], Init::Zeros);
            let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.1, ..Default::default() });
            sgd.step(&weight.tensor().log().sum_all()).unwrap();
            match device.synchronize().unwrap_err() {
                Error::NonFinite { found, .. } => assert_eq!(found.is_some(), std::env::var("CHECKED").unwrap() == "1"),
                other => panic!("{other}"),
            }
        });
    }
}

#[test]
fn a_value_that_a_variable_has_not_is_an_error_that_lists_those_it_has() {
    let test = "a_value_that_a_variable_has_not_is_an_error_that_lists_those_it_has";
    let err = said(test, &[("KILN_CHECK", "maybe")], || {
        for name in ["auto", "cpu", "vulkan"] {
            let text = Device::named(name).unwrap_err().to_string();
            assert!(text.contains("KILN_CHECK=maybe") && text.contains("on (1, true, yes)"), "{text}");
        }
        // The reference is made without a result: it warns, and is there.
        assert!(Device::cpu().is_cpu());
    });
    assert!(err.is_none_or(|err| err.contains("kiln: KILN_CHECK=maybe")));
}

#[test]
fn a_program_without_a_desktop_prints_no_error() {
    let err = said("a_program_without_a_desktop_prints_no_error", &[], || {
        assert!(Device::list().len() > 1);
        for name in ["auto", "vulkan", "gl"] {
            let device = Device::named(name).unwrap();
            assert_eq!((device.ones(&[3]) * 2.0).to_vec::<f32>().unwrap(), [2.0; 3]);
        }
    });
    let is_bad = |line: &str| line.to_lowercase().starts_with("error");
    assert!(err.is_none_or(|err| !err.lines().any(is_bad)));
}

#[test]
fn the_loss_of_a_device_is_told_by_errors_alone_and_leaves_another_as_it_was() {
    let test = "the_loss_of_a_device_is_told_by_errors_alone_and_leaves_another_as_it_was";
    let err = said(test, &[], || {
        for name in ["vulkan", "gl"] {
            let devices = [0, 1].map(|_| Device::named(name).unwrap());
            let held = devices.each_ref().map(|device| device.ones(&[10_000]) * 2.0);
            assert!(held.iter().all(|held| held.sum_all().item().unwrap() == 20_000.0));
            let is_lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
            // In the middle of what a thread does there, and at the driver, so that Kiln has to find out.
            let (lost, other) = (devices[0].clone(), devices[1].clone());
            let works = std::thread::spawn(move || {
                (0..).find_map(|i| (lost.ones(&[1000 + i % 7]) * 2.0).sum_all().item().err()).unwrap()
            });
            std::thread::sleep(std::time::Duration::from_millis(50));
            devices[0].inject_fault("loss");
            is_lost(works.join().unwrap());
            is_lost((&held[0] * 3.0).to_vec::<f32>().unwrap_err());
            is_lost(devices[0].synchronize().unwrap_err());
            assert_eq!(held[1].to_vec::<f32>().unwrap(), [2.0; 10_000]);
            // A driver that reports its loss makes wgpu panic.
            let reporting = Device::named(name).unwrap();
            reporting.inject_fault("poll");
            is_lost(reporting.synchronize().unwrap_err());
            drop((devices, held));
            assert_eq!((other.ones(&[3]) * 3.0).to_vec::<f32>().unwrap(), [3.0; 3]);
        }
        // What a program prints of its own panics is its own affair.
        assert!(std::thread::spawn(|| panic!("of the program")).join().is_err());
    });
    if let Some(err) = err {
        assert!(err.contains("of the program"), "{err}");
        assert_eq!(err.matches("panicked").count(), 1, "{err}");
    }
}

#[test]
fn without_a_driver_the_reference_is_the_best_device() {
    with("without_a_driver_the_reference_is_the_best_device", &NO_DRIVER, || {
        assert_eq!(Device::list(), [Device::cpu().info()]);
        let device = Device::best().unwrap();
        assert!(device.is_cpu());
        assert_eq!((device.ones(&[3]) * 2.0).to_vec::<f32>().unwrap(), [2.0; 3]);
        for name in ["vulkan", "gl"] {
            let error = Device::named(name).unwrap_err();
            assert!(matches!(&error, Error::NoDevice { wanted, .. } if wanted == name), "{error}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("there are: cpu") && text.contains("KILN_DEVICE"), "{text}");
        }
    });
}

#[test]
fn an_unknown_name_in_the_environment_lists_the_devices() {
    with("an_unknown_name_in_the_environment_lists_the_devices", &[("KILN_DEVICE", "no such thing")], || {
        let text = match Device::best().unwrap_err() {
            error @ Error::NoDevice { .. } => error.to_string(),
            other => panic!("{other}"),
        };
        for known in Device::list() {
            assert!(text.contains(&known.name), "no {known} in: {text}");
        }
        assert!(text.contains("no such thing"), "{text}");
    });
}

#[test]
fn the_environment_can_ask_for_the_reference() {
    for name in ["cpu", "CPU"] {
        with("the_environment_can_ask_for_the_reference", &[("KILN_DEVICE", name)], || {
            assert!(Device::best().unwrap().is_cpu());
        });
    }
}

/// Batches from large to small.
const BATCHES: [usize; 9] = [4096, 2048, 1024, 512, 256, 128, 32, 8, 1];

/// A network whose every step also brings what a training loop reads.
struct Trained {
    device: Device,
    layers: Vec<Linear>,
    optimizer: AdamW,
}

impl Trained {
    fn new(device: &Device) -> Result<Trained> {
        let params = ParamStore::new(device, 3);
        let layer = |name, wide, out| Linear::new(&params.root().child(name), wide, out);
        let layers = vec![layer("a", 24, 48), layer("b", 48, 48), layer("c", 48, 5)];
        let optimizer = AdamW::new(&params, AdamWConfig::default()).clip_norm(1.0);
        Ok(Trained { device: device.clone(), layers, optimizer })
    }

    fn logits(&self, rows: usize, step: usize) -> (Tensor, Tensor) {
        let x: Vec<f32> = (0..rows * 24).map(|i| ((i * 7 + step * 13) % 31) as f32 / 31.0).collect();
        let labels: Vec<u32> = (0..rows).map(|i| ((i * 3 + step) % 5) as u32).collect();
        let hidden = self.layers[0].forward(&self.device.tensor(&x, &[rows, 24]), Mode::Train).relu();
        let hidden = self.layers[1].forward(&hidden, Mode::Train).tanh();
        (self.layers[2].forward(&hidden, Mode::Train), self.device.labels(&labels))
    }

    /// A step, its loss, the logits that were held over it, and an evaluation of as many rows.
    fn step(&mut self, rows: usize, step: usize) -> Result<(f64, Vec<f32>, Vec<f32>)> {
        let (logits, labels) = self.logits(rows, step);
        let loss = logits.cross_entropy(&labels);
        self.optimizer.step(&loss)?;
        let held = logits.to_vec::<f32>()?;
        let evaluated = no_grad(|| self.logits(rows, step + 1).0.softmax(1)).to_vec::<f32>()?;
        Ok((loss.item()?, held, evaluated))
    }

    fn weights(&self) -> Result<Vec<Vec<f64>>> {
        self.layers.iter().map(|layer| layer.weight.values()).collect()
    }
}

/// The largest batch that a new device fits at this limit.
fn fits_a_new_device(open: &dyn Fn() -> Device, limit: u64, by_driver: bool) -> Option<usize> {
    BATCHES.into_iter().find(|&rows| {
        let device = open();
        device.limit_memory(limit, by_driver);
        let result = Trained::new(&device).and_then(|mut net| (0..3).try_for_each(|i| net.step(rows, i).map(drop)));
        assert!(matches!(result, Ok(()) | Err(Error::OutOfMemory { .. })), "{result:?}");
        result.is_ok()
    })
}

/// Halves the batch until it fits, on one device, and asks for the large ones again in between.
fn fits_after_refusals(device: &Device, limit: u64, by_driver: bool) -> Option<usize> {
    device.limit_memory(limit, by_driver);
    let mut net = Trained::new(device).ok()?;
    let mut sizes = BATCHES.into_iter();
    let rows = sizes.find(|&rows| match (0..3).try_for_each(|i| net.step(rows, i).map(drop)) {
        Ok(()) => true,
        Err(Error::OutOfMemory { limit: told, .. }) => {
            assert_eq!(told, if by_driver { u64::MAX } else { limit });
            false
        }
        Err(other) => panic!("{other}"),
    })?;
    let used = device.memory().0;
    for i in 3..6 {
        if rows < BATCHES[0] {
            let error = net.step(BATCHES[0], i).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
        }
        net.step(rows, i).unwrap();
    }
    net.weights().unwrap();
    assert!(device.memory().0 <= used.max(limit) && device.memory().1 <= limit, "{:?} of {limit}", device.memory());
    Some(rows)
}

#[test]
fn halving_the_batch_until_it_fits_finds_what_a_new_device_fits_at_any_limit() {
    // Nothing is computed here: what counts is what is asked of the driver.
    let open = || Device::noop().unwrap();
    let mut found = std::collections::BTreeSet::new();
    for by_driver in [false, true] {
        let mut limit = 30_000u64;
        while limit < 12_000_000 {
            let fresh = fits_a_new_device(&open, limit, by_driver);
            let halved = fits_after_refusals(&open(), limit, by_driver);
            assert_eq!(halved, fresh, "at {limit} bytes, by the driver: {by_driver}");
            found.insert(fresh);
            limit += limit / 5 + 123;
        }
    }
    // None at all, and almost each of the sizes.
    assert!(found.contains(&None) && found.len() >= BATCHES.len(), "{found:?}");
}

#[test]
fn what_is_computed_under_a_limit_has_the_bits_of_a_run_without() {
    let open = || Device::named("vulkan").expect("a Vulkan driver");
    let run = |device: &Device, refused: usize| {
        let mut net = Trained::new(device).unwrap();
        let mut all = vec![];
        for i in 0..4 {
            if i % 2 == 1 && refused > 0 {
                assert!(matches!(net.step(refused, i), Err(Error::OutOfMemory { .. })));
            }
            all.push(net.step(37, i).unwrap());
        }
        (all, net.weights().unwrap(), net.optimizer.steps())
    };
    let free = run(&open(), 0);
    let device = open();
    for (limit, by_driver) in [(400_000, false), (300_000, true), (200_000, false), (160_000, true)] {
        device.limit_memory(limit, by_driver);
        assert_eq!(run(&device, 2048), free, "{limit} {by_driver}");
    }
}

#[test]
fn a_value_is_read_in_pieces_where_there_is_no_room_for_all() {
    let device = Device::named("vulkan").expect("a Vulkan driver");
    let values: Vec<f32> = (0..50_001).map(|i| i as f32).collect();
    let held = device.tensor(&values, &[50_001]) + 1.0;
    device.eval(&[&held]).unwrap();
    let expected: Vec<f32> = values.iter().map(|x| x + 1.0).collect();
    for room in [150_000, 30_000, 6000] {
        device.limit_memory(u64::MAX, false);
        device.synchronize().unwrap();
        device.limit_memory(device.memory().0 + room, false);
        assert_eq!(held.to_vec::<f32>().unwrap(), expected, "{room}");
    }
    // Not even one piece.
    device.limit_memory(1000, false);
    assert!(matches!(held.to_vec::<f32>(), Err(Error::OutOfMemory { .. })));
}
