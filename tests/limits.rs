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
    if std::env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([test, "--exact", "--nocapture"]).env(INSIDE, test).env_remove("KILN_DEVICE");
    let output = child.envs(settings.iter().copied()).output().unwrap();
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "{test} is not the name of this test: {out}");
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
                    assert_eq!((bytes, limit), (4_000_000, 1_000_000));
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
                let mut optimizer = AdamW::new(&params, AdamWConfig { clip_norm: Some(1.0), ..Default::default() });
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
