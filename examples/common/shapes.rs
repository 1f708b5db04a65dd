//! Small colour images of ten shapes, for programs whose images are not there.

use anyhow::Result;
use kiln::data::{Images, Splits};
use kiln::rng::Philox;

/// Pixels of a side.
const SIDE: usize = 32;

/// How deep a point (from the centre, in units of the shape's size) is within a shape: above 0 inside.
fn depth(shape: usize, x: f64, y: f64) -> f64 {
    let (length, largest) = (x.hypot(y), x.abs().max(y.abs()));
    match shape {
        0 => 1.0 - length,                                              // a disc
        1 => 0.9 - largest,                                             // a square
        2 => 0.3 - (length - 0.8).abs(),                                // a ring
        3 => 1.1 - x.abs() - y.abs(),                                   // a diamond
        4 => 0.3 - x.abs().min(y.abs()).max(largest - 0.7),             // a cross
        5 => (y + 0.8).min(0.8 - y).min(0.8 - y - 2.0 * x.abs() + 0.4), // a triangle
        6 => 0.35 - y.abs().max(x.abs() - 0.7),                         // a bar that lies
        7 => 0.35 - x.abs().max(y.abs() - 0.7),                         // a bar that stands
        8 => 0.3 - (largest - 0.7).abs(),                               // a frame
        _ => 0.5 - ((x.abs() - 0.6).hypot(y)),                          // two discs
    }
}

/// So many images `[3, 32, 32]` to train on and to test with: a shape of any colour, size and place on a ground of another,
/// with noise.
pub fn shapes(train: usize, test: usize, seed: u64) -> Result<Splits> {
    let part = |count: usize, stream: u64| -> Result<Images> {
        let mut random = Philox::new(seed, stream);
        let (mut pixels, mut labels) = (Vec::with_capacity(count * 3 * SIDE * SIDE), vec![]);
        for number in 0..count {
            let shape = number % 10;
            let mut colour = || [(); 3].map(|()| random.uniform());
            let (ground, ink) = (colour(), colour());
            let [size, left, top] =
                [(7.0, 12.0), (12.0, 20.0), (12.0, 20.0)].map(|(low, high)| low + (high - low) * random.uniform());
            for channel in 0..3 {
                for place in 0..SIDE * SIDE {
                    let (x, y) = ((place % SIDE) as f64 - left, (place / SIDE) as f64 - top);
                    let share = (0.5 + 4.0 * depth(shape, x / size, y / size)).clamp(0.0, 1.0);
                    let value = ground[channel] + share * (ink[channel] - ground[channel]) + 0.05 * random.normal();
                    pixels.push(value.clamp(0.0, 1.0) as f32);
                }
            }
            labels.push(shape as u32);
        }
        Ok(Images::new("shapes", pixels, labels, [3, SIDE, SIDE], 10)?)
    };
    Ok(Splits { train: part(train, 1)?, test: part(test, 2)? })
}
