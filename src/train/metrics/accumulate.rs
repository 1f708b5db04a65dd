//! Totals on the device: counts of 64 bits in two words, sums in a cascade of levels.
//!
//! A plain f32 sum of n batches loses log2(n) of its 24 bits. Compensated summation would keep them, were drivers not
//! free to simplify `(s + x) - s` (WGSL allows it, and Mesa does). So level k of a sum holds that of 2^k batches or
//! nothing, as the binary digits of the number of batches say: only sums of equally many batches are ever added.

use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Levels of a sum: 2^32 batches.
const LEVELS: usize = 32;

/// A tensor on the device, or what a checkpoint gave and no update has taken up yet.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Device(Tensor),
    Host(Array),
}

impl Held {
    pub fn on(&self, device: &Device) -> Tensor {
        match self {
            Held::Device(tensor) => tensor.clone(),
            Held::Host(array) => device.array(array),
        }
    }

    pub fn tensor(&self) -> Option<&Tensor> {
        match self {
            Held::Device(tensor) => Some(tensor),
            Held::Host(_) => None,
        }
    }
}

/// The totals of one metric.
#[derive(Debug, Clone, Default)]
pub(super) struct Accumulated {
    /// Number of batches.
    pub batches: u64,
    pub items: u64,
    /// Low and high words.
    pub counts: Option<[Held; 2]>,
    /// `[32, k]`.
    pub sums: Option<Held>,
    pub rows: Vec<Vec<Held>>,
    pub kept: Option<Held>,
}

impl Accumulated {
    /// The same handles without rows, of which there is one a batch.
    pub fn clone_but_rows(&self) -> Accumulated {
        let Accumulated { batches, items, counts, sums, kept, .. } = self;
        let (counts, sums, kept) = (counts.clone(), sums.clone(), kept.clone());
        Accumulated { batches: *batches, items: *items, counts, sums, rows: vec![], kept }
    }

    /// All that is held, in an order that depends on what there is alone.
    pub fn all(&self) -> impl Iterator<Item = &Held> {
        let counts = self.counts.iter().flatten();
        counts.chain(&self.sums).chain(&self.kept).chain(self.rows.iter().flatten())
    }

    /// What the last batch has made; rows of earlier ones stay as they are.
    pub fn last(&self) -> impl Iterator<Item = &Held> {
        let counts = self.counts.iter().flatten();
        counts.chain(&self.sums).chain(&self.kept).chain(self.rows.last().into_iter().flatten())
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Held> {
        let counts = self.counts.iter_mut().flatten();
        counts.chain(&mut self.sums).chain(&mut self.kept).chain(self.rows.iter_mut().flatten())
    }
}

/// Low and high words of counts after more have been added.
pub(super) fn count(device: &Device, before: Option<&[Held; 2]>, more: &Tensor) -> [Held; 2] {
    let [low, high] = match before {
        Some([low, high]) => [low.on(device), high.on(device)],
        None => {
            let zeros = device.full(more.dims(), 0.0, DType::U32);
            [zeros.clone(), zeros]
        }
    };
    let sum = &low + more;
    // It has wrapped where it is less than what was added.
    let carry = sum.lt(more).cast(DType::U32);
    [Held::Device(sum), Held::Device(&high + &carry)]
}

/// The levels of sums after those of batch number `batches` (from 0) have been added.
pub(super) fn add(device: &Device, before: Option<&Held>, batches: u64, more: &Tensor) -> Held {
    let width = more.dims().elements();
    let levels = before.map_or_else(|| device.zeros(&[LEVELS, width]), |levels| levels.on(device));
    // Those below it are full and move up, as the ones at the end of a binary number do when one is added.
    let level = batches.trailing_ones().min(LEVELS as u32 - 1);
    let numbers = device.arange(LEVELS, DType::I32).reshape(&[LEVELS, 1]);
    let (below, at) = (numbers.lt(level), numbers.eq(level));
    let zero = device.zeros(&[]);
    let moving = below.where_(&levels, &zero).sum(0) + more;
    let left = below.where_(&zero, &levels);
    // The last level, full after 2^31 batches, goes on as a plain sum.
    Held::Device(&left + at.where_(&moving, &zero))
}

/// Whole counts.
pub(super) fn counts_of(low: &[f64], high: &[f64]) -> Vec<u64> {
    low.iter().zip(high).map(|(&low, &high)| ((high as u64) << 32).saturating_add(low as u64)).collect()
}

/// Sums of all levels; the smallest first.
pub(super) fn sums_of(levels: &[f64]) -> Vec<f64> {
    let width = levels.len() / LEVELS;
    (0..width).map(|column| levels.iter().skip(column).step_by(width).sum()).collect()
}

/// A host array.
pub(super) fn array(shape: &[usize], dtype: DType, data: Vec<f64>) -> Array {
    Array { shape: Shape::new(shape).unwrap_or(Shape::SCALAR), dtype, data }
}
