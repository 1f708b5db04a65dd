//! The choice of a program's inputs, steps and results.

use super::{
    EXACT_BINARY, EXACT_UNARY, Input, Options, Program, REDUCTIONS, ROWS, SMOOTH_BINARY, SMOOTH_UNARY, Source, Step,
};
use kiln::{DType, Device, Tensor};

/// A random program. It always ends, and every tensor of it is valid.
pub fn program(source: &mut impl Source, options: &Options) -> Program {
    let seed = u64::from(source.byte());
    let mixed = !options.full && source.once_in(4);
    let program = Program { inputs: vec![], steps: vec![], results: vec![], mixed, exact: options.exact, seed };
    let mut writer = Writer { source, options, program, values: vec![], cpu: Device::cpu() };
    let (inputs, steps) = (1 + writer.source.below(3), 1 + writer.source.below(options.steps));
    (0..inputs).for_each(|_| writer.input());
    for _ in 0..steps {
        // A step that is not valid where it is tried is left out.
        let _ = writer.step();
    }
    let last = writer.values.len() - 1;
    let mut results = vec![last];
    (0..writer.source.below(3)).for_each(|_| results.push(writer.any()));
    results.sort_unstable();
    results.dedup();
    writer.program.results = results;
    writer.program
}

/// Lengths of axes: multiples of four and eight, and what divides by nothing.
const LENGTHS: &[usize] = &[4, 1, 3, 8, 5, 12, 2, 16, 7, 72, 37];
/// Numbers that f16 holds without rounding, and their sums and differences.
const LIMIT: f64 = 2048.0;

struct Writer<'a, S> {
    source: &'a mut S,
    options: &'a Options,
    program: Program,
    values: Vec<Tensor>,
    cpu: Device,
}

impl<S: Source> Writer<'_, S> {
    fn shape(&self, k: usize) -> Vec<usize> {
        self.values[k].shape().expect("a valid value").to_vec()
    }

    fn dtype(&self, k: usize) -> DType {
        self.values[k].dtype().expect("a valid value")
    }

    /// A value, one of the last six for the most part.
    fn any(&mut self) -> usize {
        let count = self.values.len();
        let back = if self.source.once_in(4) { count } else { count.min(6) };
        count - 1 - self.source.below(back.min(256))
    }

    fn dtypes(&self) -> &'static [DType] {
        match (self.options.exact, self.options.full) {
            (_, true) => &[DType::F32],
            (true, false) => &[DType::F32, DType::F16, DType::I32, DType::U32, DType::Bool],
            (false, false) => &[DType::F32, DType::F16],
        }
    }

    fn lengths(&mut self) -> Vec<usize> {
        let rank = self.source.pick(&[2, 3, 2, 1, 3, 4, 0, 2]);
        let mut shape = vec![];
        for _ in 0..rank {
            let length = self.source.pick(LENGTHS);
            let elements: usize = shape.iter().product();
            shape.push(if elements * length > self.options.elements { 1 } else { length });
        }
        shape
    }

    fn input(&mut self) {
        let shape = self.lengths();
        let dtypes = self.dtypes();
        let dtype = self.source.pick(dtypes);
        self.program.inputs.push(Input { shape, dtype });
        let input = self.cpu.array(&self.program.array(self.values.len()));
        self.values.push(if dtype == DType::F32 { input.variable() } else { input });
    }

    /// Adds a step if its result is valid; the number of its value.
    fn add(&mut self, step: Step) -> Option<usize> {
        let value = self.program.apply(&step, &self.cpu, &self.values);
        let shape = value.shape().ok()?;
        if shape.iter().product::<usize>() > self.options.elements {
            return None;
        }
        if self.options.exact {
            let whole = |x: &f64| x.abs() <= LIMIT && x.fract() == 0.0;
            if !value.to_array().ok()?.data.iter().all(whole) {
                return None;
            }
        }
        self.values.push(value);
        self.program.steps.push(step);
        Some(self.values.len() - 1)
    }

    /// Value `k`, or one made of it, of this dtype.
    fn of_dtype(&mut self, k: usize, dtype: DType) -> Option<usize> {
        if self.dtype(k) == dtype { Some(k) } else { self.add(Step::Cast(k, dtype)) }
    }

    /// A value that broadcasts with value `k` and has its dtype: another one, or a slice, a turn or a sum of `k` itself.
    fn partner(&mut self, k: usize) -> Option<usize> {
        let (shape, dtype) = (self.shape(k), self.dtype(k));
        let fits =
            |other: &[usize]| other.iter().rev().zip(shape.iter().rev()).all(|(&a, &b)| a == b || a == 1 || b == 1);
        let start = self.any();
        let other = (0..self.values.len())
            .map(|i| (start + i) % self.values.len())
            .find(|&other| other != k && fits(&self.shape(other)));
        if let Some(other) = other
            && !self.source.once_in(3)
        {
            return self.of_dtype(other, dtype);
        }
        if shape.is_empty() {
            return Some(k);
        }
        let axis = self.source.below(shape.len());
        match self.source.below(4) {
            0 | 1 => {
                let start = self.source.below(shape[axis].min(256));
                self.add(Step::Slice(k, axis, start, 1))
            }
            2 => {
                let (step, shape) = (self.source.pick(&[1, 2]), self.shape(k));
                let other = (axis + step) % shape.len();
                let turned: Vec<usize> = (0..shape.len())
                    .map(|i| {
                        if i == axis {
                            other
                        } else if i == other {
                            axis
                        } else {
                            i
                        }
                    })
                    .collect();
                if shape[axis] == shape[other] { self.add(Step::Permute(k, turned)) } else { Some(k) }
            }
            _ => Some(k),
        }
    }

    fn step(&mut self) -> Option<usize> {
        let k = self.any();
        let (shape, dtype) = (self.shape(k), self.dtype(k));
        let rank = shape.len();
        let exact = self.options.exact;
        match self.source.below(24) {
            0..=3 => {
                let step = Step::Unary(self.source.pick(if exact { EXACT_UNARY } else { SMOOTH_UNARY }), k);
                self.add(step)
            }
            4..=8 => {
                let other = self.partner(k)?;
                let op = self.source.pick(if exact { EXACT_BINARY } else { SMOOTH_BINARY });
                let [a, b] = if self.source.once_in(2) { [other, k] } else { [k, other] };
                // Below zero there is no u32.
                let op = if dtype == DType::U32 && op.0 == "sub" { EXACT_BINARY[0] } else { op };
                self.add(Step::Binary(op, a, b))
            }
            9 | 10 => {
                let op = self.source.pick(&[EXACT_BINARY[0], EXACT_BINARY[1], EXACT_BINARY[2], EXACT_BINARY[3]]);
                let number = match exact || !dtype.is_float() {
                    // Whole for whole numbers, which round or refuse what they cannot hold.
                    true => self.source.below(4) as f64,
                    false => self.source.below(32) as f64 / 16.0 - 1.0,
                };
                self.add(Step::Number(op, k, number))
            }
            11 => {
                let other = self.partner(k)?;
                let condition = match self.source.below(2) {
                    // Of steps: a rounding that falls the other way must not choose.
                    0 if exact => self.add(Step::Number(EXACT_BINARY[7], k, 1.0))?,
                    _ => {
                        let index = self.add(Step::Index(*shape.last()?, DType::I32))?;
                        self.add(Step::Number(EXACT_BINARY[7], index, 2.0))?
                    }
                };
                self.add(Step::Where(condition, k, other))
            }
            12 => {
                let dtypes = self.dtypes();
                let to = self.source.pick(dtypes);
                self.add(Step::Cast(k, to))
            }
            13 if rank > 0 => {
                let mut axes: Vec<usize> = (0..rank).collect();
                for i in (1..rank).rev() {
                    axes.swap(i, self.source.below(i + 1));
                }
                self.add(Step::Permute(k, axes))
            }
            14 if rank > 0 => {
                let axis = self.source.below(rank);
                let start = self.source.below(shape[axis].min(256));
                let length = 1 + self.source.below((shape[axis] - start).min(256));
                self.add(Step::Slice(k, axis, start, length))
            }
            15 => {
                let mut wider = shape.clone();
                for length in &mut wider {
                    if *length == 1 {
                        *length = self.source.pick(LENGTHS);
                    }
                }
                if wider == shape || self.source.once_in(3) {
                    wider.insert(0, self.source.pick(LENGTHS));
                }
                self.add(Step::Expand(k, wider))
            }
            16 => {
                let mut other = shape.clone();
                let axis = self.source.below(rank.max(1));
                match (self.source.below(3), other.get(axis)) {
                    (0, Some(&length)) if length % 4 == 0 => drop(other.splice(axis..=axis, [length / 4, 4])),
                    (1, Some(_)) if axis + 1 < rank => {
                        let behind = other.remove(axis + 1);
                        other[axis] *= behind;
                    }
                    (_, _) => other.insert(axis.min(rank), 1),
                }
                self.add(Step::Reshape(k, other))
            }
            17 | 18 if rank > 0 => {
                let mut axes: Vec<usize> = (0..rank).filter(|_| self.source.once_in(2)).collect();
                if axes.is_empty() {
                    axes.push(self.source.below(rank));
                }
                // Means are no whole numbers; a maximum has steps in its gradient only.
                let op = self.source.pick(if exact { &REDUCTIONS[..3] } else { REDUCTIONS });
                self.add(Step::Axes(op, k, axes))
            }
            19 if rank > 0 => {
                let axis = self.source.below(rank);
                let other = if self.source.once_in(2) { k } else { self.partner(k)? };
                self.add(Step::Concat(k, other, axis))
            }
            20 if rank > 0 && dtype == DType::F32 => {
                let pairs = (0..rank).map(|_| (self.source.below(3), self.source.below(2))).collect();
                self.add(Step::Pad(k, pairs))
            }
            21 if (2..=4).contains(&rank) && dtype.is_float() => {
                // Its own turn always fits.
                let mut axes: Vec<usize> = (0..rank).collect();
                axes.swap(rank - 2, rank - 1);
                let turned = self.add(Step::Permute(k, axes))?;
                self.add(Step::Matmul(k, turned))
            }
            22 if rank == 4 && dtype.is_float() => {
                let max = exact || self.source.once_in(2);
                self.add(Step::Pool(max, k))
            }
            22 if rank > 0 && exact => {
                let axis = self.source.below(rank);
                if self.source.once_in(2) && dtype.is_float() {
                    return self.add(Step::Argmax(k, axis));
                }
                let length = 1 + self.source.below(shape[axis].min(8));
                let index = self.add(Step::Index(length, DType::I32))?;
                self.add(Step::Gather(k, axis, index))
            }
            23 if rank > 0 && !exact => {
                let op = self.source.pick(ROWS);
                let axis = self.source.below(rank);
                self.add(Step::Axes(op, k, vec![axis]))
            }
            _ => {
                let (shape, dtypes) = (self.lengths(), self.dtypes());
                let (dtype, value) = (self.source.pick(dtypes), self.source.below(2) as f64);
                self.add(Step::Fill(shape, value, dtype))
            }
        }
    }
}
