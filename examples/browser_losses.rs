//! The losses of the network that the page in a browser trains, from a native run: what its badge and its test compare with.
//!
//! `cargo run --release --example browser_losses -- [STEPS] [DEVICE]` writes a list of numbers, for the settings that the
//! page begins with. `.. -- trials STEPS` writes an object about the networks that the test trains beside the page: losses and
//! kernels of each by name, by the kernels of software (`norm`) and of hardware (`norm hardware`), on a device that tells of no
//! more than a browser's; and the milliseconds of a step, on the device as it is and on that one. `.. -- reference STEPS` writes the losses of the f64
//! reference.

use std::time::Instant;

use kiln::prelude::*;
use pollster::block_on;
use serde_json::{Map, Value, json};

#[path = "common/digits_net.rs"]
mod digits_net;
use digits_net::{DigitsNet, Settings, batch_of};
#[path = "common/trials.rs"]
mod trials;
use trials::Trial;

/// The best device, as a browser would tell of it.
fn plain(hardware: bool) -> Result<Device> {
    let faults: &[&str] = if hardware { &["plain", "hardware"] } else { &["plain"] };
    Device::named_with_faults("auto", faults)
}

/// Losses and kernels of a trial that is saved after half of its steps, and goes on from there in another network.
fn halves(device: &Device, name: &str, steps: usize) -> Result<Value> {
    let mut trial = Trial::new(device, name);
    let mut losses = block_on(trial.losses(steps / 2))?;
    let bytes = block_on(trial.save())?;
    losses.extend(block_on(trial.losses(steps / 2))?);
    let mut second = trial.beside();
    block_on(second.resume(&bytes, steps as u64 / 2))?;
    let again = block_on(second.losses(steps / 2))?;
    assert_eq!(again, losses[steps / 2..], "{name} does not resume to the same losses");
    Ok(json!({ "losses": losses, "kernels": second.kernels() }))
}

/// Milliseconds of a step: the mean of so many, in the best of three rounds, so that other programs count less.
fn milliseconds(device: &Device, name: &str, steps: usize) -> Result<f64> {
    let mut trial = Trial::new(device, name);
    block_on(trial.losses(5))?;
    let mut best = f64::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        for _ in 0..steps {
            block_on(device.ready())?;
            trial.step()?;
        }
        device.synchronize()?;
        best = best.min(1e3 * began.elapsed().as_secs_f64() / steps.max(1) as f64);
    }
    Ok(best)
}

/// All that the test compares with.
fn all(steps: usize) -> Result<()> {
    let (mut trials, mut times) = (Map::new(), Map::new());
    for hardware in [false, true] {
        let device = plain(hardware)?;
        for name in ["norm", "transformer"] {
            let label = if hardware { format!("{name} hardware") } else { name.into() };
            // Hardware's kernels take software long.
            trials.insert(label, halves(&device, name, if hardware { steps / 2 } else { steps })?);
        }
    }
    let quasi_newton = block_on(trials::quasi_newton(&plain(false)?, 5))?;
    let (own, plain) = (Device::named_with_faults("auto", &[])?, plain(false)?);
    for name in ["norm", "transformer"] {
        times.insert(name.into(), json!([milliseconds(&own, name, 40)?, milliseconds(&plain, name, 40)?]));
    }
    println!(
        "{}",
        json!({ "device": own.info().name, "trials": trials, "lbfgs": quasi_newton, "milliseconds": times })
    );
    Ok(())
}

/// Losses of the f64 reference, by name.
fn reference(steps: usize) -> Result<()> {
    let losses = |name| block_on(Trial::new(&Device::cpu(), name).losses(steps)).map(|losses| (name, json!(losses)));
    let all: Map<String, Value> = ["norm", "transformer"]
        .into_iter()
        .map(|name| losses(name).map(|(name, all)| (name.into(), all)))
        .collect::<Result<_>>()?;
    println!("{}", Value::Object(all));
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let what = arguments.next_if(|word| word.parse::<u64>().is_err());
    let count = arguments.peek().and_then(|steps| steps.parse().ok());
    match what.as_deref() {
        Some("trials") => return all(count.unwrap_or(20)),
        Some("reference") => return reference(count.unwrap_or(20)),
        _ => {}
    }
    let steps: u64 = arguments.next().and_then(|steps| steps.parse().ok()).unwrap_or(20);
    let device = arguments.next().map_or_else(Device::best, |name| Device::named(&name))?;
    let (settings, digits) = (Settings::default(), kiln::data::digits());
    let mut net = DigitsNet::new(&device, &settings, 8)?;
    let mut losses = vec![];
    for step in 0..steps {
        let Some(batch) = batch_of(&digits.train, &settings, step)? else { break };
        losses.push(net.step(&batch)?.0.item()?);
    }
    println!("{}", json!(losses));
    Ok(())
}
