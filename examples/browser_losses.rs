//! The losses of the network that the page in a browser trains, from a native run: what its badge and its test compare with.
//!
//! `cargo run --release --example browser_losses -- [STEPS] [DEVICE]` writes a list of numbers, for the settings that the
//! page begins with. `.. -- trials STEPS` writes the losses of the networks that the test trains beside the page, by name, by the kernels
//! of software (`norm`) and of hardware (`norm hardware`); `.. -- time STEPS` the milliseconds of such a step.

use std::time::Instant;

use kiln::prelude::*;
use pollster::block_on;

#[path = "common/digits_net.rs"]
mod digits_net;
use digits_net::{DigitsNet, Settings, batch_of};
#[path = "common/trials.rs"]
mod trials;

fn open(hardware: bool) -> Result<Device> {
    let faults: &[&str] = if hardware { &["hardware"] } else { &[] };
    Device::named_with_faults("auto", faults)
}

/// Losses of each trial, as an object.
fn all(steps: usize) -> Result<()> {
    let mut losses = serde_json::Map::new();
    for name in ["norm", "transformer"] {
        for hardware in [false, true] {
            let label = if hardware { format!("{name} hardware") } else { name.into() };
            let mut trial = trials::Trial::new(&open(hardware)?, name);
            let mut own = block_on(trial.losses(steps / 2))?;
            let bytes = block_on(trial.save())?;
            own.extend(block_on(trial.losses(steps / 2))?);
            let mut second = trials::Trial::new(&open(hardware)?, name);
            block_on(second.resume(&bytes, steps as u64 / 2))?;
            let again = block_on(second.losses(steps / 2))?;
            assert_eq!(again, own[steps / 2..], "{label} does not resume to the same losses");
            losses.insert(label, serde_json::json!(own));
        }
    }
    let quasi_newton = block_on(trials::quasi_newton(&open(false)?, 5))?;
    losses.insert("lbfgs".into(), serde_json::json!(quasi_newton));
    println!("{}", serde_json::Value::Object(losses));
    Ok(())
}

/// Milliseconds of a step of each trial, the mean of so many.
fn times(steps: usize) -> Result<()> {
    let mut times = serde_json::Map::new();
    for name in ["norm", "transformer", "tiny"] {
        let device = open(false)?;
        let mut trial = trials::Trial::new(&device, name);
        block_on(trial.losses(5))?;
        let began = Instant::now();
        for _ in 0..steps {
            block_on(device.ready())?;
            trial.step()?;
        }
        device.synchronize()?;
        let milliseconds = 1e3 * began.elapsed().as_secs_f64() / steps.max(1) as f64;
        times.insert(name.into(), serde_json::json!(milliseconds));
    }
    times.insert("device".into(), serde_json::json!(open(false)?.info().name));
    println!("{}", serde_json::Value::Object(times));
    Ok(())
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let what = arguments.next_if(|word| word.parse::<u64>().is_err());
    let count = arguments.peek().and_then(|steps| steps.parse().ok());
    match what.as_deref() {
        Some("trials") => return all(count.unwrap_or(40)),
        Some("time") => return times(count.unwrap_or(100)),
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
    println!("{}", serde_json::json!(losses));
    Ok(())
}
