//! What L-BFGS remembers of the losses it has seen, and the direction that follows from it.

use std::collections::VecDeque;

use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::shape::Shape;
use crate::tensor::{Tensor, no_grad};

/// Curvature below which a step tells nothing.
const LEAST_CURVATURE: f64 = 1e-10;

/// A step, how the gradient changed with it, and 1 over their product.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub step: Tensor,
    pub change: Tensor,
    pub inverse: Tensor,
}

impl Pair {
    pub fn tensors(&self) -> [(&'static str, &Tensor); 3] {
        [("step", &self.step), ("change", &self.change), ("inverse", &self.inverse)]
    }
}

/// Where an iteration began, and where it went.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub gradient: Tensor,
    pub direction: Tensor,
    /// How far, in directions.
    pub length: f64,
    /// The inverse Hessian that pairs change: so many times 1.
    pub scale: Tensor,
}

/// All that later iterations depend on. Tensors are values on the device, vectors of all parameters.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub iterations: u64,
    pub evaluations: u64,
    /// The oldest first.
    pub pairs: VecDeque<Pair>,
    pub last: Option<Last>,
}

/// A direction.
pub(super) struct Direction {
    pub vector: Tensor,
    /// The derivative of the loss along it.
    pub slope: f64,
    /// Its largest element, by magnitude.
    pub largest: f64,
}

/// A number as a value on the device, with all the bits that the device has: it changes from step to step, and no plan with it.
pub(super) fn number(device: &Device, value: f64) -> Tensor {
    device.array(&Array { shape: Shape::SCALAR, dtype: DType::F32, data: vec![value] })
}

/// The scalar product of two vectors.
pub(super) fn dot(left: &Tensor, right: &Tensor) -> Tensor {
    (left * right).sum_all()
}

/// Scalars, read with what else is computed on the way.
pub(super) async fn read(device: &Device, scalars: &[&Tensor], beside: &[&Tensor]) -> Result<Vec<f64>> {
    let numbers = no_grad(|| {
        let scalars: Vec<Tensor> = scalars.iter().map(|scalar| scalar.reshape(&[1])).collect();
        Tensor::concat(&scalars.iter().collect::<Vec<_>>(), 0)
    });
    let mut wanted = vec![&numbers];
    wanted.extend(beside);
    device.eval(&wanted)?;
    Ok(numbers.to_array_async().await?.data)
}

impl Memory {
    /// The next direction from where the gradient is `gradient`, with at most `history` pairs. Reads once; a second time
    /// where the last step told nothing.
    pub async fn direction(&mut self, gradient: &Tensor, history: usize) -> Result<Direction> {
        let device = gradient.device().clone();
        let Some(last) = &self.last else {
            let (scale, vector) = no_grad(|| (device.ones(&[]), -gradient));
            let numbers = measured(&device, &vector, gradient, &[], &[&scale]).await?;
            return Ok(self.taken(gradient, vector, scale, &numbers));
        };
        // As if the last step told something, which it mostly does.
        let mut pairs = self.pairs.clone();
        let (product, scale, vector) = no_grad(|| {
            let (step, change) = (&last.direction * number(&device, last.length), gradient - &last.gradient);
            let (product, square) = (dot(&change, &step), dot(&change, &change));
            let inverse = product.recip();
            let scale = &product / &square;
            pairs.push_back(Pair { step, change, inverse });
            while pairs.len() > history {
                pairs.pop_front();
            }
            let vector = two_loops(&pairs, gradient, &scale);
            (product, scale, vector)
        });
        let newest = pairs.back().map_or(vec![], |pair| pair.tensors().map(|(_, tensor)| tensor).to_vec());
        let beside: Vec<&Tensor> = newest.into_iter().chain([&scale]).collect();
        let numbers = measured(&device, &vector, gradient, &[&product], &beside).await?;
        if numbers[2] > LEAST_CURVATURE {
            self.pairs = pairs;
            return Ok(self.taken(gradient, vector, scale, &numbers));
        }
        let scale = last.scale.clone();
        let vector = no_grad(|| two_loops(&self.pairs, gradient, &scale));
        let numbers = measured(&device, &vector, gradient, &[], &[]).await?;
        Ok(self.taken(gradient, vector, scale, &numbers))
    }

    fn taken(&mut self, gradient: &Tensor, vector: Tensor, scale: Tensor, numbers: &[f64]) -> Direction {
        self.last = Some(Last { gradient: gradient.clone(), direction: vector.clone(), length: 0.0, scale });
        Direction { vector, slope: numbers[0], largest: numbers[1] }
    }
}

/// The slope along a direction, its largest element, and `more` scalars.
async fn measured(
    device: &Device,
    vector: &Tensor,
    gradient: &Tensor,
    more: &[&Tensor],
    beside: &[&Tensor],
) -> Result<Vec<f64>> {
    let (slope, largest) = no_grad(|| (dot(gradient, vector), vector.abs().max_all()));
    let scalars: Vec<&Tensor> = [&slope, &largest].into_iter().chain(more.iter().copied()).collect();
    let beside: Vec<&Tensor> = beside.iter().copied().chain([vector]).collect();
    read(device, &scalars, &beside).await
}

/// -H g by the two loops of Nocedal 1980.
fn two_loops(pairs: &VecDeque<Pair>, gradient: &Tensor, scale: &Tensor) -> Tensor {
    let mut vector = -gradient;
    let mut shares = vec![];
    for pair in pairs.iter().rev() {
        let share = dot(&pair.step, &vector) * &pair.inverse;
        vector -= &pair.change * &share;
        shares.push(share);
    }
    vector *= scale;
    for (pair, share) in pairs.iter().zip(shares.iter().rev()) {
        let back = dot(&pair.change, &vector) * &pair.inverse;
        vector += &pair.step * (share - back);
    }
    vector
}
