//! Numbers on their way between a device and files, some at a time: host memory does not grow with what is moved.

use std::panic::Location;
use std::sync::Arc;

use crate::arena::Arena;
use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::engine;
use crate::error::Result;
use crate::gpu::{Gpu, GpuValue};
use crate::graph::{Source, Value};
use crate::host::HostData;
use crate::layout::Meta;
use crate::packed::Packed;
use crate::tensor::Tensor;

/// Elements that are moved at a time: a GPU is waited for after each.
const WINDOW: usize = 1 << 20;

/// Where numbers of a model lie, to be read.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// From this element of an arena on.
    Arena(Arc<Arena>, usize),
    /// All of a tensor.
    Tensor(Tensor),
    /// On the host.
    Host(Vec<f64>),
}

impl Place {
    /// True if the numbers have all their f64 bits there.
    pub fn is_exact(&self) -> bool {
        match self {
            Place::Arena(arena, _) => arena.is_cpu(),
            Place::Tensor(tensor) => tensor.device().is_exact(),
            Place::Host(_) => true,
        }
    }
}

/// Reads from devices; ranges of one arena that follow each other come in one go.
#[derive(Default)]
pub(crate) struct Reader {
    /// Number of the arena that the window is a part of, and its first element.
    window: Option<(u64, usize, HostData)>,
}

impl Reader {
    /// Hands `length` numbers on in order, some at a time. Waits for the device that they are on.
    pub fn read(&mut self, place: &Place, length: usize, take: &mut dyn FnMut(&HostData) -> Result<()>) -> Result<()> {
        match place {
            Place::Arena(arena, offset) => self.arena(arena, *offset, length, take),
            Place::Tensor(tensor) => read_tensor(tensor, take),
            Place::Host(values) => values.chunks(WINDOW).try_for_each(|part| take(&HostData::F64(part.to_vec()))),
        }
    }

    fn arena(
        &mut self,
        arena: &Arc<Arena>,
        mut at: usize,
        length: usize,
        take: &mut dyn FnMut(&HostData) -> Result<()>,
    ) -> Result<()> {
        let end = at + length;
        while at < end {
            let part = match &self.window {
                Some((id, first, data)) if *id == arena.id && (*first..first + data.len()).contains(&at) => {
                    part(data, at - first, end - first)
                }
                _ => {
                    let length = WINDOW.min(arena.elements - at);
                    self.window = Some((arena.id, at, arena.read_as_stored(at, length)?));
                    continue;
                }
            };
            at += part.len();
            take(&part)?;
        }
        Ok(())
    }
}

fn read_tensor(tensor: &Tensor, take: &mut dyn FnMut(&HostData) -> Result<()>) -> Result<()> {
    let device = tensor.device();
    device.eval(&[tensor])?;
    let parts = |data: &HostData, take: &mut dyn FnMut(&HostData) -> Result<()>| {
        (0..data.len()).step_by(WINDOW).try_for_each(|first| take(&part(data, first, first + WINDOW)))
    };
    match (tensor.node().value(), device.gpu()) {
        (Some(Value::Cpu(array)), _) => {
            array.data.chunks(WINDOW).try_for_each(|part| take(&HostData::F64(part.to_vec())))
        }
        (Some(Value::Gpu(value)), Some(gpu)) => (0..value.elements).step_by(WINDOW).try_for_each(|first| {
            let length = WINDOW.min(value.elements - first);
            take(&gpu.read_part(&value, first, length)?)
        }),
        _ => parts(&*engine::read(tensor.node())?, take),
    }
}

/// Elements `first` to `end` of `data`, as far as there are any.
fn part(data: &HostData, first: usize, end: usize) -> HostData {
    let range = first..end.min(data.len());
    match data {
        HostData::F64(values) => HostData::F64(values[range].to_vec()),
        HostData::F32(values) => HostData::F32(values[range].to_vec()),
        HostData::F16(values) => HostData::F16(values[range].to_vec()),
        HostData::I32(values) => HostData::I32(values[range].to_vec()),
        HostData::U32(values) => HostData::U32(values[range].to_vec()),
    }
}

/// Writes to arenas; ranges that follow each other go in one go.
pub(crate) struct Writer<'a> {
    device: &'a Device,
    /// Ranges begin at its multiples; what is between them is filled with zeros.
    block: usize,
    target: Option<Arc<Arena>>,
    first: usize,
    window: Vec<f32>,
}

impl<'a> Writer<'a> {
    pub fn new(device: &'a Device, block: usize) -> Writer<'a> {
        Writer { device, block, target: None, first: 0, window: vec![] }
    }

    /// Writes `numbers` from element `offset` of `arena` on.
    pub fn put(&mut self, arena: &Arc<Arena>, offset: usize, numbers: &Packed<'_>) -> Result<()> {
        let (mut at, mut result) = (offset, Ok(()));
        numbers.pieces(|piece| {
            if result.is_ok() {
                result = self.piece(arena, at, piece);
            }
            at += piece.len();
        });
        result
    }

    /// Writes `length` zeros.
    pub fn put_zeros(&mut self, arena: &Arc<Arena>, offset: usize, length: usize) -> Result<()> {
        let zeros = [0.0; 1024];
        (0..length).step_by(zeros.len()).try_for_each(|first| {
            let piece = &zeros[..zeros.len().min(length - first)];
            self.piece(arena, offset + first, piece)
        })
    }

    fn piece(&mut self, arena: &Arc<Arena>, at: usize, values: &[f64]) -> Result<()> {
        if arena.is_cpu() {
            arena.cpu()?[at..at + values.len()].copy_from_slice(values);
            return Ok(());
        }
        let end = self.first + self.window.len();
        let same = self.target.as_ref().is_some_and(|target| target.id == arena.id);
        let follows = at == end || at == end.next_multiple_of(self.block);
        if !(same && follows && self.window.len() < WINDOW) {
            self.flush()?;
            (self.target, self.first) = (Some(arena.clone()), at);
        }
        self.window.resize(at - self.first, 0.0);
        self.window.extend(values.iter().map(|&value| value as f32));
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(target) = self.target.take().filter(|_| !self.window.is_empty()) else { return Ok(()) };
        let backend = self.device.backend();
        backend.write_arena(&target.place, self.first, &self.window)?;
        backend.flush()?;
        self.window.clear();
        Ok(())
    }

    /// Writes what is left. To be called at the end.
    pub fn finish(mut self) -> Result<()> {
        self.flush()
    }
}

/// `numbers` as a tensor whose value is on the device.
#[track_caller]
pub(crate) fn store(device: &Device, meta: Meta, numbers: &Packed<'_>) -> Result<Tensor> {
    let Some(gpu) = device.gpu() else {
        return Ok(device.array(&Array { shape: meta.shape, dtype: meta.dtype, data: numbers.to_vec() }));
    };
    let leaf = Tensor::leaf(device, meta, Source::Stored, Location::caller());
    leaf.node().set_value(Value::Gpu(upload(gpu, meta, numbers)?));
    Ok(leaf)
}

fn upload(gpu: &Gpu, meta: Meta, numbers: &Packed<'_>) -> Result<GpuValue> {
    let buffer = gpu.storage("a state", gpu.bytes_of(meta.elements(), meta.dtype))?;
    let (mut window, mut at, mut result) = (vec![], 0, Ok(()));
    let mut flush = |window: &mut Vec<u8>| -> Result<()> {
        // What is beyond the last element is nobody's.
        window.resize(window.len().next_multiple_of(4), 0);
        gpu.write(&buffer, at, window)?;
        gpu.flush()?;
        at += window.len() as u64;
        window.clear();
        Ok(())
    };
    numbers.pieces(|piece| {
        let data = match meta.dtype {
            DType::F32 => HostData::F32(piece.iter().map(|&x| x as f32).collect()),
            DType::F16 => HostData::F16(piece.iter().map(|&x| half::f16::from_f32(x as f32)).collect()),
            DType::I32 => HostData::I32(piece.iter().map(|&x| x as i32).collect()),
            DType::U32 | DType::Bool => HostData::U32(piece.iter().map(|&x| x as u32).collect()),
        };
        let used = window.len();
        window.resize(used + gpu.upload_bytes(&data), 0);
        gpu.pack(&data, &mut window[used..]);
        if window.len() >= 4 * WINDOW && result.is_ok() {
            result = flush(&mut window);
        }
    });
    result?;
    flush(&mut window)?;
    Ok(GpuValue::new(buffer, meta.elements(), meta.dtype, None))
}
