//! Profiles: they name every kernel of the plan, count every call, change no result, and give a trace that a viewer reads.

mod common;

use std::collections::HashMap;

use common::net::{Net, adamw, train};
use kiln::Device;
use kiln::profile::{Clock, Phase, Profile};

const STEPS: u64 = 7;

/// Losses of some steps, the names of a step's kernels with how often each is in it, and the profile.
fn run(profiled: bool, fault: Option<&str>) -> (Vec<u32>, HashMap<String, u64>, Profile, Device) {
    let device = common::backend("vulkan");
    if let Some(fault) = fault {
        device.inject_fault(fault);
    }
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    device.set_profiling(profiled).unwrap();
    let losses = (0..STEPS).map(|step| train(&device, &net, &mut optimizer, 37, step));
    let losses: Vec<u32> = losses.map(|loss| (loss.item().unwrap() as f32).to_bits()).collect();
    let profile = device.profile().unwrap();
    let mut names = HashMap::new();
    let is_dispatch = |line: &&str| line.split_whitespace().next().is_some_and(|word| word.parse::<u32>().is_ok());
    for line in device.statistics().last_plan.lines().skip(1).filter(is_dispatch) {
        // Number, name, grid, ..
        let is_grid =
            |word: &&str| word.split_once('x').is_some_and(|(x, y)| [x, y].iter().all(|n| n.parse::<u32>().is_ok()));
        let words: Vec<&str> = line.split_whitespace().skip(1).take_while(|word| !is_grid(word)).collect();
        *names.entry(words.join(" ")).or_insert(0) += 1;
    }
    (losses, names, profile, device)
}

#[test]
fn a_profile_has_every_kernel_of_the_plan_with_its_calls_and_times() {
    let (_, names, profile, _) = run(true, None);
    assert_eq!(profile.runs, STEPS);
    let got: HashMap<String, u64> = profile.by_name().into_iter().map(|kernel| (kernel.name, kernel.calls)).collect();
    let want: HashMap<String, u64> = names.into_iter().map(|(name, each)| (name, each * STEPS)).collect();
    assert_eq!(got, want);
    assert_ne!(profile.clock, Clock::Missing);
    let product = profile.kernels.iter().find(|kernel| kernel.name.starts_with("matmul")).unwrap();
    assert!(product.flops > 0 && product.bytes > 0 && !product.total.is_zero() && !product.median.is_zero());
    let phase = |phase| profile.host.iter().find(|line| line.phase == phase).unwrap();
    assert_eq!(phase(Phase::Submit).calls, STEPS);
    assert_eq!(phase(Phase::Compile).calls, 1);
    assert!(phase(Phase::Record).calls > STEPS && !phase(Phase::Key).total.is_zero());
    let table = profile.to_string();
    for name in want.keys() {
        assert!(table.contains(name.as_str()), "{name} is not in\n{table}");
    }
    // The device cannot have been busy for longer than the clock on the wall.
    assert!(profile.device_time() <= profile.elapsed, "{table}");
}

#[test]
fn a_profiled_run_has_the_bits_of_another() {
    let (with, ..) = run(true, None);
    let (without, _, profile, _) = run(false, None);
    assert_eq!(with, without);
    assert!(profile.kernels.is_empty() && profile.runs == 0);
}

#[test]
fn an_adapter_whose_timestamps_fail_is_profiled_without_them() {
    let (losses, names, profile, device) = run(true, Some("timestamps"));
    assert_eq!(losses, run(false, None).0);
    assert_eq!(profile.clock, Clock::Missing);
    assert_eq!(profile.by_name().iter().map(|kernel| kernel.calls).sum::<u64>(), names.values().sum::<u64>() * STEPS);
    assert!(profile.to_string().contains("no timestamps"));
    assert_eq!(device.warnings().len(), 1, "{:?}", device.warnings());
}

#[test]
fn a_trace_is_json_whose_events_nest() {
    let (_, names, profile, _) = run(true, None);
    let trace: serde_json::Value = serde_json::from_str(&profile.trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let kernels = events.iter().filter(|event| event["cat"] == "kernel").count() as u64;
    assert_eq!(kernels, names.values().sum::<u64>() * STEPS);
    let mut tracks: HashMap<(u64, u64), Vec<(f64, f64)>> = HashMap::new();
    for event in events.iter().filter(|event| event["ph"] == "X") {
        let track = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        assert!(start >= 0.0 && length >= 0.0);
        tracks.entry(track).or_default().push((start, start + length));
    }
    assert!(tracks.len() >= 2, "a host track and a device track");
    for spans in tracks.values_mut() {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        let mut open: Vec<f64> = vec![];
        for &(start, end) in spans.iter() {
            // Times are whole nanoseconds; sums of floating-point microseconds are off by less.
            while open.last().is_some_and(|&outer| outer <= start + 1e-4) {
                open.pop();
            }
            assert!(open.last().is_none_or(|&outer| end <= outer + 1e-4), "{start}..{end} crosses {open:?}");
            open.push(end);
        }
    }
}

#[test]
fn the_reference_has_an_empty_profile() {
    let device = Device::cpu();
    device.set_profiling(true).unwrap();
    assert!(device.profile().unwrap().kernels.is_empty());
}
