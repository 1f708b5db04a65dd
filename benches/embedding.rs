//! What the gradient of an embedding takes beside a copy of as many bytes: `cargo bench --bench embedding`.
//!
//! 65,536 indices into 50,000 x 128. The gradient's kernels (sorting, sums) by the device's timestamps, and a copy that reads and writes
//! the bytes of what comes in and of the result, in turn; medians. `-- --kernels` prints the kernels' times as well.

use kiln::prelude::*;
use kiln::rng::Philox;

const ROWS: usize = 50_000;
const COUNT: usize = 65_536;
const WIDTH: usize = 128;
const ROUNDS: usize = 15;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Milliseconds of the kernels of which `is_wanted` is true, while `result` is computed.
fn milliseconds(device: &Device, result: &Tensor, is_wanted: impl Fn(&str) -> bool) -> Result<(f64, f64), Error> {
    device.set_profiling(true)?;
    device.eval(&[result])?;
    device.synchronize()?;
    let kernels = device.profile()?.by_name();
    device.set_profiling(false)?;
    if std::env::args().any(|argument| argument == "--kernels") {
        for kernel in &kernels {
            println!("    {:40} {:4} {:8.2} ms", kernel.name, kernel.calls, kernel.total.as_secs_f64() * 1e3);
        }
    }
    let all = |is_wanted: &dyn Fn(&str) -> bool| -> f64 {
        let own = kernels.iter().filter(|kernel| is_wanted(&kernel.name));
        own.map(|kernel| kernel.total.as_secs_f64() * 1e3).sum()
    };
    Ok((all(&is_wanted), all(&|name| name.contains("gather.sum"))))
}

fn main() -> Result<(), Error> {
    let device = Device::best()?;
    let mut rng = Philox::new(1, 0);
    let table = device.zeros(&[ROWS, WIDTH]).variable();
    let index: Vec<u32> = (0..COUNT).map(|_| rng.below(ROWS as u32)).collect();
    let index = device.tensor(&index, &[COUNT]);
    let weight = device.uniform(&[COUNT, WIDTH], 0.0, 1.0, 1);
    let moved = device.uniform(&[(ROWS + COUNT) / 2, WIDTH], 0.0, 1.0, 1);
    device.eval(&[&index, &weight, &table, &moved])?;
    let (mut gradients, mut sums, mut copies) = (vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let loss = (table.embedding(&index, None) * &weight).sum_all();
        let gradient = loss.gradients(&[&table])?.remove(0);
        let own = |name: &str| name.starts_with("gather") || name.starts_with("radix");
        let (all, sum) = milliseconds(&device, &gradient, own)?;
        let (copy, _) = milliseconds(&device, &(&moved * 1.0), |_| true)?;
        // The first round makes the kernels.
        if round > 0 {
            gradients.push(all);
            sums.push(sum);
            copies.push(copy);
        }
    }
    let [all, sum, copy] = [gradients, sums, copies].map(median);
    println!(
        "gradient of {COUNT} indices into {ROWS} x {WIDTH}: {all:.1} ms, {sum:.1} of them sums; a copy of as many bytes {copy:.1} ms: \
         {:.2} times",
        all / copy
    );
    Ok(())
}
