//! The losses of the network that the page in a browser trains, from a native run: what its badge and its test compare with.
//!
//! `cargo run --release --example browser_losses -- [STEPS] [DEVICE]` writes a list of numbers, for the settings that the
//! page begins with.

use kiln::prelude::*;

#[path = "common/digits_net.rs"]
mod digits_net;
use digits_net::{DigitsNet, Settings, batch_of};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let steps: u64 = arguments.next().and_then(|steps| steps.parse().ok()).unwrap_or(20);
    let device = arguments.next().map_or_else(Device::best, |name| Device::named(&name))?;
    let (settings, digits) = (Settings::default(), kiln::data::digits());
    let mut net = DigitsNet::new(&device, &settings)?;
    let mut losses = vec![];
    for step in 0..steps {
        let Some(batch) = batch_of(&digits.train, &settings, step)? else { break };
        losses.push(net.step(&batch)?.0.item()?);
    }
    println!("{}", serde_json::json!(losses));
    Ok(())
}
