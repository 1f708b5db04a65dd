//! What attention without its matrix of weights takes beside the composed form: `cargo bench --bench attention`.
//!
//! Forward and backward, 4 heads of 64 features at T = 1,024 (`-- --length 8192 --heads 8` for others), the steps of both in turn:
//! medians, that of the ratios, and what either has allocated on the device besides its inputs at the most. `-- --kernels` prints the
//! kernels' times as well.

use std::time::Instant;

use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::prelude::*;

const ROUNDS: usize = 15;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A form on a device of its own, so that its memory is its own.
struct Site {
    name: &'static str,
    device: Device,
    form: AttentionForm,
    inputs: Vec<Tensor>,
    /// Bytes of the inputs.
    before: u64,
}

impl Site {
    fn new(name: &'static str, form: AttentionForm, heads: usize, length: usize) -> Result<Site, Error> {
        let device = Device::best()?;
        let inputs: Vec<Tensor> =
            (1..=3).map(|seed| device.normal(&[1, heads, length, 64], 0.0, 1.0, seed).variable()).collect();
        device.eval(&inputs.iter().collect::<Vec<_>>())?;
        device.synchronize()?;
        let before = device.memory().0;
        Ok(Site { name, device, form, inputs, before })
    }

    /// Seconds of a step.
    fn step(&self) -> Result<f64, Error> {
        let start = Instant::now();
        let options = AttentionOptions { form: self.form, ..AttentionOptions::default() };
        let [q, k, v] = [0, 1, 2].map(|input| &self.inputs[input]);
        let loss = q.scaled_dot_product_attention(k, v, &options).sum_all();
        let gradients = loss.gradients(&[q, k, v])?;
        self.device.eval(&gradients.iter().collect::<Vec<_>>())?;
        self.device.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Bytes at the most besides the inputs.
    fn bytes(&self) -> u64 {
        self.device.memory().1.saturating_sub(self.before)
    }

    fn kernels(&self) -> Result<(), Error> {
        self.device.set_profiling(true)?;
        self.step()?;
        let kernels = self.device.profile()?.by_name();
        self.device.set_profiling(false)?;
        for kernel in kernels {
            println!(
                "    {:10} {:50} {:4} {:8.2} ms",
                self.name,
                kernel.name,
                kernel.calls,
                kernel.total.as_secs_f64() * 1e3
            );
        }
        Ok(())
    }
}

/// The number behind a name, `--length 4096`.
fn number(name: &str, or: usize) -> usize {
    let mut all = std::env::args().skip_while(|argument| argument != name);
    all.nth(1).and_then(|word| word.parse().ok()).unwrap_or(or)
}

fn main() -> Result<(), Error> {
    let (length, heads) = (number("--length", 1024), number("--heads", 4));
    let by_kernel = std::env::args().any(|argument| argument == "--kernels");
    let blocks = Site::new("blocks", AttentionForm::Blocks, heads, length)?;
    blocks.step()?;
    let composed = Site::new("composed", AttentionForm::Composed, heads, length)?;
    if let Err(error) = composed.step() {
        println!("composed: {error}");
        println!("T = {length}: blocks {:.1} ms, {:.1} MB", blocks.step()? * 1e3, blocks.bytes() as f64 / 1e6);
        return Ok(());
    }
    let times: Result<Vec<(f64, f64)>, Error> = (0..ROUNDS).map(|_| Ok((composed.step()?, blocks.step()?))).collect();
    let times = times?;
    let ratio = median(times.iter().map(|(composed, blocks)| blocks / composed).collect());
    let (own, other): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    println!(
        "T = {length}: composed {:.1} ms, {:.1} MB; blocks {:.1} ms, {:.1} MB; {ratio:.2} times the time, {:.2} of the memory",
        median(own) * 1e3,
        composed.bytes() as f64 / 1e6,
        median(other) * 1e3,
        blocks.bytes() as f64 / 1e6,
        blocks.bytes() as f64 / composed.bytes() as f64,
    );
    if by_kernel {
        composed.kernels()?;
        blocks.kernels()?;
    }
    Ok(())
}
