//! Annealed gradient noise (Neelakantan et al. 2015, "Adding gradient noise improves learning for very deep networks").
//!
//! Noise is drawn from the seed, the parameter's name, the step and the element, so it does not depend on the device, on how
//! parameters lie, or on what is drawn elsewhere. The device counts the steps itself, as [`Optimizer::steps`](super::Optimizer::steps)
//! does once every report is in: a refused step, of which the host learns later, changes no noise.

use std::f64::consts::TAU;
use std::sync::Arc;

use super::rounds::Owners;
use crate::arena::Arena;
use crate::costs::Costs;
use crate::engine::{ArenaBinding, ArenaKernel};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Shader};
use crate::params::{BLOCK, Chunk, Placed, stream};
use crate::rng::philox4x32;
use crate::shader::params;
use crate::shaders::optim::{NOISE, NOISE_COUNT};
use crate::shaders::pointwise::PHILOX;

/// Changes the seed, so that noise shares no counter with what else is drawn from it.
const KEY: u64 = 0x6e6f_6973_6500_0000;

/// The noise of an optimizer.
#[derive(Clone, Copy)]
pub(super) struct Noise<'a> {
    /// Variance in the first step, and the power of steps by which it falls.
    pub settings: (f64, f64),
    pub seed: u64,
    /// Steps so far.
    pub steps: &'a Arc<Arena>,
}

params! {
    /// Sizes of the noise of an arena.
    struct Sizes {
        vectors,
        deviation: f32,
        power: f32,
        key_low: u32,
        key_high: u32,
    }
}

fn key(seed: u64) -> [u32; 2] {
    let key = seed ^ KEY;
    [key as u32, (key >> 32) as u32]
}

fn halves(stream: u64) -> [u32; 2] {
    [stream as u32, (stream >> 32) as u32]
}

/// The normals of elements 4 `block` and the three behind it.
fn normals(seed: u64, name: &str, step: u32, block: u32) -> [f64; 4] {
    let [low, high] = halves(stream(name));
    let words = philox4x32([block, step, low, high], key(seed));
    let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
    let pair = |a: u32, b: u32| {
        let radius = (-2.0 * (unit(a) + 1.0 / f64::from(1 << 24)).ln()).sqrt();
        let (sine, cosine) = (TAU * unit(b)).sin_cos();
        [radius * cosine, radius * sine]
    };
    let ([a, b], [c, d]) = (pair(words[0], words[1]), pair(words[2], words[3]));
    [a, b, c, d]
}

impl Noise<'_> {
    /// Words that tell it from others.
    pub fn words(&self) -> [u64; 4] {
        [self.settings.0.to_bits(), self.settings.1.to_bits(), self.seed, self.steps.id]
    }

    /// The kernels that add it to the gradients of the parameters to be updated, which are given by chunk.
    pub fn kernels(
        &self,
        chunks: &[Chunk],
        updated: &[Vec<&Placed>],
        scale: &Arc<Arena>,
        costs: &Costs,
    ) -> Result<Vec<ArenaKernel>> {
        let mut kernels = vec![];
        for (chunk, places) in chunks.iter().zip(updated).filter(|(_, places)| !places.is_empty()) {
            let gradients = chunk.gradients.as_ref().ok_or_else(|| Error::internal("a chunk without gradients"))?;
            let mut owners = Owners::of(chunk);
            places.iter().for_each(|place| owners.add(place, halves(stream(&place.name))));
            let vectors = chunk.values.elements / 4;
            let each = if costs.dear_loads { BLOCK / 4 } else { 1 };
            let mut kernel = Kernel::own("noise", Shader::of(&[&PHILOX, &NOISE]).constant("EACH", each));
            let ((variance, power), [key_low, key_high]) = (self.settings, key(self.seed));
            let (deviation, power) = (variance.sqrt() as f32, power as f32);
            kernel.uniform(Sizes { vectors, deviation, power, key_low, key_high });
            kernel.workgroups = vectors.div_ceil(64 * each) as u64;
            kernel.iterations = each as u64 * 11;
            let mut kernel = ArenaKernel { kernel, arenas: vec![] };
            kernel.bind(ArenaBinding::write(gradients, "gradients", "vec4<f32>"));
            kernel.bind(ArenaBinding::read(self.steps, "steps", "u32"));
            kernel.bind(ArenaBinding::read(scale, "scaling", "f32"));
            owners.bind(&mut kernel);
            kernels.push(kernel);
        }
        Ok(kernels)
    }

    /// The kernel that counts the step, behind the verdict.
    pub fn count(&self, status: &Arc<Arena>) -> ArenaKernel {
        let kernel = Kernel::own("noise.count", Shader::of(&[&NOISE_COUNT]));
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(self.steps, "steps", "u32"));
        kernel.bind(ArenaBinding::read(status, "status", "vec4<f32>"));
        kernel
    }

    /// The same in f64, for a parameter with gradients that have the loss scale in them.
    pub fn reference(&self, name: &str, gradients: &mut [f64], scale: f64) -> Result<()> {
        let step = self.steps.cpu()?[0];
        let (variance, power) = self.settings;
        let size = scale * variance.sqrt() / (1.0 + step).powf(power / 2.0);
        for (block, gradients) in gradients.chunks_mut(4).enumerate() {
            let normals = normals(self.seed, name, step as u32, block as u32);
            gradients.iter_mut().zip(normals).for_each(|(g, n)| *g += size * n);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_moments_of_normals() {
        let draws: Vec<f64> = (0..25_000).flat_map(|block| normals(7, "weight", 3, block)).collect();
        let moment = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / draws.len() as f64;
        let [mean, variance, fourth] = [1, 2, 4].map(moment);
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02 && (fourth - 3.0).abs() < 0.15);
        let next = (0..25_000).flat_map(|block| normals(7, "weight", 4, block));
        let product: f64 = draws.iter().zip(next).map(|(a, b)| a * b).sum();
        assert!(product.abs() / 1e5 < 0.01, "the noise of two steps is not related: {product}");
    }
}
